"""Devices through which a hypervisor gives a machine memory and takes it back."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class VirtioMem:
    """A virtio-mem device: a region of addresses, parts of which are memory.  Sizes in pages of 4 KiB.

    Attributes:
        name: what the hypervisor calls it.  nid: the node that its memory goes to.
        start_pfn, nr_pages: the region, whole memory blocks.
        block_pages: the device's own block size: what one request can plug at least.
        unit_pages: what the driver plugs and unplugs at once: a part of a memory block, or one or more of them.
        requested_pages: how much of the region the hypervisor wants to be memory.
        timer_s: seconds after the last run until the driver tries again; 0: it does not.
        attempt: how often the timer has fired since the driver last reached the requested size.
        plugged: of each memory block that the driver has added, which parts are memory: bit n stands for the n-th.
    Source: drivers/virtio/virtio_mem.c struct virtio_mem (5.14).
    """

    name: str
    nid: int
    start_pfn: int
    nr_pages: int
    block_pages: int
    unit_pages: int
    requested_pages: int = 0
    timer_s: int = 0
    attempt: int = 0
    plugged: dict[int, int] = field(default_factory=dict)

    @property
    def end_pfn(self) -> int:
        """First pfn behind the region."""
        return self.start_pfn + self.nr_pages

    def part_pages(self, memory_block_pages: int) -> int:
        """Pages that one bit of ``plugged`` stands for: a sub-block, or a whole memory block of a big block."""
        return min(self.unit_pages, memory_block_pages)

    def plugged_pages(self, memory_block_pages: int) -> int:
        """Pages of the region that are memory."""
        parts = sum(mask.bit_count() for mask in self.plugged.values())
        return parts * self.part_pages(memory_block_pages)


def device_of_block(devices: Iterable[VirtioMem], block: int) -> VirtioMem | None:
    """The device that has added a memory block."""
    return next((device for device in devices if block in device.plugged), None)


def device_at(devices: Iterable[VirtioMem], first_pfn: int, end_pfn: int) -> VirtioMem | None:
    """A device whose region overlaps a range of pages."""
    return next((d for d in devices if first_pfn < d.end_pfn and d.start_pfn < end_pfn), None)
