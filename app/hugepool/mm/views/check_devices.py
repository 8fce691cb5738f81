"""The law of devices: what they have plugged is memory, and what they have not is none.  Part of ``check``."""

from itertools import pairwise

import numpy as np

from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.machine.devices import VirtioMem
from hugepool.mm.machine.mmzone import SectionState, Use
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, SECTION_PAGES


def virtio_mem(host: Host) -> list[str]:
    """Memory blocks of a device lie in its region; parts that are not plugged are out of the allocator's hands."""
    found = [finding for device in host.virtio_mem.values() for finding in _of_device(host, device)]
    devices = sorted(host.virtio_mem.values(), key=lambda device: device.start_pfn)
    for lower, upper in pairwise(devices):
        if lower.end_pfn > upper.start_pfn:
            found.append(f"the regions of {lower.name} and {upper.name} overlap")
    return found


def _of_device(host: Host, device: VirtioMem) -> list[str]:
    out, size = [], host.memory_block_pages
    part = device.part_pages(size)
    for block, mask in device.plugged.items():
        first = block * size
        if not device.start_pfn <= first < device.end_pfn or mask >> size // part:
            out.append(f"{device.name}: memory block {block} has parts outside of the region")
            continue
        if host.mem.section_state[first // SECTION_PAGES] != SectionState.ONLINE:
            continue
        inside = np.arange(first // PAGEBLOCK_PAGES, (first + size) // PAGEBLOCK_PAGES)
        out_of_use = pages_of_use(host.mem, inside, Use.UNPLUGGED).size
        missing = size - mask.bit_count() * part
        if out_of_use != missing:
            out.append(
                f"{device.name}: {out_of_use} pages of block {block} are unplugged, {missing} by its device"
            )
    return out
