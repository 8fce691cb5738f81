"""Memory blocks, as hotplug sees memory."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hugepool.mm.kernel.memory_hotplug import valid_zones, zone_of_block
from hugepool.mm.machine.devices import device_of_block
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap, SectionState, Use
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import (
    BLOCKS_PER_1G,
    BLOCKS_PER_SECTION,
    ORDER_1G,
    ORDER_2M,
    SECTION_PAGES,
    size_name,
)
from hugepool.mm.views.host_view import block_states, sections_per_block
from hugepool.mm.views.section_view import short


@dataclass(frozen=True, slots=True)
class MemoryBlock:
    """One memory block, in pages of 4 KiB.

    Attributes:
        block: its number.
        phys_index: the same as sysfs writes it, in hexadecimal digits.
        state: `offline` with any section of it.
        node: null for a block whose memory belongs to no node.
        zone: null when it is offline, or lies in several zones.
        valid_zones: where it may go, the default first; of an online block, where it is.
        removable: always true, as in every kernel since 5.5.
        start_pfn: its first page.
        hugepages: by size, those that lie in it wholly or in part.
        device: the virtio-mem device that plugged it; null: none.
    """

    block: int
    phys_index: str
    state: Literal["online", "offline"]
    node: int | None
    zone: str | None
    valid_zones: str
    removable: bool
    start_pfn: int
    nr_pages: int
    free_pages: int
    hugepages: dict[str, int]
    device: str | None


def blocks(host: Host, after: int, limit: int) -> list[MemoryBlock]:
    """Up to ``limit`` memory blocks numbered above ``after``."""
    states = block_states(host)
    first = min(max(after + 1, 0), states.size)
    numbers = first + np.flatnonzero(states[first:])[:limit]
    return [_block(host, number, int(states[number])) for number in numbers.tolist()]


def block(host: Host, number: int) -> MemoryBlock:
    """One memory block.  Raises ENOENT."""
    states = block_states(host)
    if not 0 <= number < states.size or not states[number]:
        raise NotFound("no memory block of this number on this host", block=short(number))
    return _block(host, number, int(states[number]))


def _block(host: Host, number: int, state: int) -> MemoryBlock:
    mem, per_block = host.mem, sections_per_block(host)
    first = number * per_block
    part = slice(first * BLOCKS_PER_SECTION, min(first + per_block, mem.nr_sections) * BLOCKS_PER_SECTION)
    nids = mem.section_nid[first : first + per_block]
    online = state == SectionState.ONLINE
    only = zone_of_block(host, number) if online else None
    zone = only.name if only else None
    device = device_of_block(host.virtio_mem.values(), number)
    return MemoryBlock(
        block=number,
        phys_index=f"{number:08x}",
        state="online" if online else "offline",
        node=int(nids[nids >= 0][0]) if (nids >= 0).any() else None,
        zone=zone,
        valid_zones=(zone or "none") if online else _valid_zones(host, number, int(nids.max())),
        removable=True,
        start_pfn=first * SECTION_PAGES,
        nr_pages=host.memory_block_pages,
        free_pages=int(mem.nfree[part].sum(dtype=np.int64)),
        hugepages=_hugepages_in(mem, part),
        device=device.name if device else None,
    )


def _valid_zones(host: Host, number: int, nid: int) -> str:
    """Zones an offline block may go to, the default first."""
    start, end = number * host.memory_block_pages, (number + 1) * host.memory_block_pages
    return " ".join(valid_zones(host, max(nid, 0), start, end))


def _hugepages_in(mem: MemoryMap, part: slice) -> dict[str, int]:
    """Huge pages that lie in pageblocks, wholly or in part."""
    huge = np.flatnonzero(mem.use[part] == Use.HUGETLB)
    gigantic = (mem.flags[part][huge] & BlockFlag.GIGANTIC) != 0
    groups = np.unique((huge[gigantic] + part.start) // BLOCKS_PER_1G)
    return {size_name(ORDER_2M): int((~gigantic).sum()), size_name(ORDER_1G): int(groups.size)}
