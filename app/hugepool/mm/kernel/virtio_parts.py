"""What both modes of the virtio-mem driver are made of: taking parts of memory blocks out, adding and removing blocks.

Source: drivers/virtio/virtio_mem.c virtio_mem_fake_offline(), virtio_mem_fake_online(), virtio_mem_add_memory(),
virtio_mem_could_add_memory(), virtio_mem_sbm_offline_and_remove_mb() (5.14).
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from hugepool.mm.kernel import memory_hotplug, memory_offline
from hugepool.mm.kernel.contig import alloc_contig_range, assign_range
from hugepool.mm.kernel.replace_hugepages import ContigProgress
from hugepool.mm.machine.devices import VirtioMem
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import VirtioMemAction, VirtioMemStep
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Blocks, Migrate, SectionState, Use
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import GIB_PAGES, PAGE_SIZE, PAGEBLOCK_PAGES, SECTION_PAGES

TRIES_IN_MOVABLE = 5
OFFLINE_THRESHOLD = GIB_PAGES  # pages that wait to go online; beyond them nothing is added


class Kind(IntEnum):
    """Where the memory of a block is."""

    OFFLINE = 0
    MOVABLE = 1
    KERNEL = 2


@dataclass(slots=True)
class Run:
    """One run of the driver: what it works on, what it met, and what it did, one step after the other.

    ``failure``: the last reason why memory stayed where it is.
    """

    host: Host
    call: Call
    device: VirtioMem
    progress: ContigProgress
    failure: MMError | None = None
    steps: list[VirtioMemStep] = field(default_factory=list)

    def take_out(self, start_pfn: int, pages: int, kind: Kind) -> str | None:
        """Take a range of an online block out; the errno if it stays."""
        refused = fake_offline(self.host, self.call, start_pfn, pages, kind, self.progress)
        if refused is None:
            return None
        self.failure = refused
        return "ENOMEM" if refused.errno == "ENOMEM" else "EBUSY"

    def did(self, block: int, action: VirtioMemAction, pages: int, errno: str | None = None) -> None:
        """Note a step."""
        self.steps.append(VirtioMemStep(block, action, pages * PAGE_SIZE, errno))


def sections_of(host: Host, block: int) -> Blocks:
    """The sections of a memory block."""
    per_block = host.memory_block_pages // SECTION_PAGES
    return np.arange(block * per_block, (block + 1) * per_block)


def kind_of(host: Host, block: int) -> Kind:
    """Where the memory of a block of the device is."""
    first = sections_of(host, block)[0]
    if host.mem.section_state[first] != SectionState.ONLINE:
        return Kind.OFFLINE
    zone = host.zones[int(host.mem.zone[block * host.memory_block_pages // PAGEBLOCK_PAGES]) - 1]
    return Kind.MOVABLE if zone.type == ZONE_MOVABLE else Kind.KERNEL


# -- parts of online blocks ------------------------------------------------------------------------------


def fake_offline(
    host: Host, call: Call, start_pfn: int, pages: int, kind: Kind, progress: ContigProgress
) -> MMError | None:
    """Take a range out of the hands of the allocator, or say why it could not be emptied.

    In ZONE_MOVABLE it is tried five times, elsewhere once; no memory for what is in it ends it at once.
    """
    failure = None
    for _ in range(TRIES_IN_MOVABLE if kind == Kind.MOVABLE else 1):
        try:
            alloc_contig_range(host, call, start_pfn, start_pfn + pages, Migrate.MOVABLE, progress)
        except MMError as refused:
            failure = refused
            if refused.errno == "ENOMEM":
                break
            continue
        assign_range(host.mem, start_pfn, start_pfn + pages, Use.UNPLUGGED)
        return None
    return failure


def fake_online(host: Host, start_pfn: int, pages: int) -> None:
    """Give a range that was taken out back to the allocator."""
    assign_range(host.mem, start_pfn, start_pfn + pages, Use.BUDDY)
    host.mem.put_back(np.arange(start_pfn // PAGEBLOCK_PAGES, (start_pfn + pages) // PAGEBLOCK_PAGES))


# -- whole blocks ----------------------------------------------------------------------------------------


def may_add(run: Run, pages: int) -> bool:
    """Whether more memory may be added: only so much may wait to go online."""
    host = run.host
    waiting = sum(kind_of(host, block) == Kind.OFFLINE for block in run.device.plugged)
    threshold = max(OFFLINE_THRESHOLD, 2 * host.memory_block_pages, 2 * run.device.unit_pages)
    return waiting * host.memory_block_pages + pages <= threshold


def next_blocks(run: Run, count: int) -> list[int]:
    """The lowest ``count`` memory blocks of the region, side by side, that were not added; none: it is full."""
    size, device = run.host.memory_block_pages, run.device
    for block in range(device.start_pfn // size, device.end_pfn // size - count + 1, count):
        if block not in device.plugged:
            return list(range(block, block + count))
    return []


def add_blocks(run: Run, masks: dict[int, int]) -> str | None:
    """Add memory blocks, with the parts of them that are plugged; auto_online_blocks says what becomes of them.

    ENOMEM when there is no memory for their vmemmap; nothing is added then.
    """
    host, device = run.host, run.device
    sections = np.concatenate([sections_of(host, block) for block in masks])
    try:
        memory_hotplug.add_memory(host, run.call, device.nid, sections, on_itself=False)
    except MMError as refused:
        run.failure = refused
        return refused.errno
    device.plugged.update(masks)
    run.call.emit(Event.MEMORY_ADDED, node=device.nid, blocks=[min(masks), max(masks)])
    if host.auto_online_blocks != "offline":
        for block in masks:
            memory_hotplug.online_pages(
                host, run.call, block, sections_of(host, block), host.auto_online_blocks
            )
    return None


def remove_block(run: Run, block: int) -> str | None:
    """Take a memory block that has nothing plugged offline and away; the errno if it has to stay."""
    host, sections = run.host, sections_of(run.host, block)
    if kind_of(host, block) != Kind.OFFLINE:
        try:
            memory_offline.offline_pages(host, run.call, block, sections)
        except MMError as refused:
            run.failure = refused
            run.did(block, "offline", 0, refused.errno)
            return refused.errno
        run.did(block, "offline", host.memory_block_pages)
    freed = memory_hotplug.remove_memory(host, sections)
    run.call.emit(Event.MEMORY_REMOVED, block=block, vmemmap_pages=freed.pages, lost_pages=freed.lost)
    del run.device.plugged[block]
    run.did(block, "remove", host.memory_block_pages)
    return None
