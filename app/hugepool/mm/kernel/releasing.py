"""Many huge pages that are restored and freed one after the other (until 6.6), found for all of them at once.

A page takes frames from the list of the CPU, which is refilled from the pageblocks that unmovable pages have; where
those are full, a pair of free pageblocks is stolen, the one freed last: often of the very huge pages that were just
given back.  When the lists are refilled and flushed follows from numbers alone (``release_counts``), so the pages move
in few steps: up to the next theft, then what is stolen, and so on.

Source: mm/hugetlb.c update_and_free_pages_bulk(); mm/page_alloc.c __rmqueue_fallback() (5.14).
"""

from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.kernel.buddy import listed_blocks, pages_without_steal, take_pages
from hugepool.mm.kernel.hugetlb_vmemmap import leading, map_frames, restore_zones, vmemmap_sections
from hugepool.mm.kernel.page_alloc import alloc_pages, usable
from hugepool.mm.kernel.pcp import flush_oldest, free_pages, time_matters
from hugepool.mm.kernel.pcp_sizes import batch_size, pages_of
from hugepool.mm.kernel.release_counts import Releases
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.mmzone import (
    NO_PFNS,
    ZONE_NORMAL,
    BlockFlag,
    Blocks,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    Zone,
    pages_in,
)
from hugepool.mm.machine.pcp_lists import PerCpuPages
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

FEWEST = 16  # huge pages that are not worth the trouble
PAIR_PAGES = 2 * PAGEBLOCK_PAGES
STOLEN = (
    Migrate.RECLAIMABLE,
    Migrate.MOVABLE,
)  # types whose pageblocks unmovable pages take when they have none


def release_together(host: Host, call: Call, hs: HState, heads: Blocks) -> int:
    """Restore and free leading optimised pages of 2 MiB as one after the other; how many, 0 where that could differ."""
    heads = heads[: _of_one_kind(host, heads)]
    if heads.size < FEWEST or any(fault.armed for fault in host.faults.values()):
        return 0
    zone = host.zones[int(host.mem.zone[heads[0]]) - 1]
    zones = restore_zones(host, zone.nid)
    if not zones:
        return 0
    payer, need = zones[0], hs.nr_free_vmemmap_pages
    spare = usable(payer, ZONE_NORMAL) - payer.low - payer.lowmem_reserve[ZONE_NORMAL]
    if payer is not zone:
        heads = heads[: max(0, (spare - 2 * batch_size(payer)) // need)]
        if heads.size:
            _release_apart(host, call, hs, heads, zones)
        return int(heads.size)
    if host.profile.pcp_high_moves or zone.pcp_disabled:
        return 0
    counts = Releases(host, zone, need, int(heads.size), spare)
    counts.run()
    if counts.done < FEWEST or time_matters(host, pages_of(host, zone), counts.others):
        return 0
    _Release(host, call, hs, zone, heads[: counts.done], counts).run()
    return counts.done


def _of_one_kind(host: Host, heads: Blocks) -> int:
    """How many leading huge pages are optimised and movable, and lie in the zone of the first one."""
    mem = host.mem
    flags = mem.flags[heads] & (BlockFlag.OPTIMIZED | BlockFlag.SPOILT)
    alike = (flags == BlockFlag.OPTIMIZED) & (mem.mt[heads] == Migrate.MOVABLE)
    return leading(alike & (mem.zone[heads] == mem.zone[heads[:1]]))


def _release_apart(host: Host, call: Call, hs: HState, heads: Blocks, zones: list[Zone]) -> None:
    """Frames come from one zone and pages go to another one: neither knows of the other."""
    need = hs.nr_free_vmemmap_pages
    frames = alloc_pages(host, zones, heads.size * need, Migrate.UNMOVABLE, ZONE_NORMAL, Use.VMEMMAP)
    map_frames(host, call, hs, heads, frames)
    host.mem.flags[heads] = 0
    free_pages(host, heads * PAGEBLOCK_PAGES, PAGEBLOCK_ORDER)


@dataclass(slots=True)
class _Release:
    """Huge pages of one zone that are given back, frames for them from the same zone.

    ``freed``: how many pageblocks went from the list to the buddy so far; ``queue``: those of the list and of the
    pages, in the order in which they go; ``taken``: frames from the buddy, in order.
    """

    host: Host
    call: Call
    hs: HState
    zone: Zone
    heads: Blocks
    counts: Releases
    freed: int = 0
    queue: Blocks = field(default_factory=lambda: NO_PFNS)
    taken: list[Pfns] = field(default_factory=list)

    def run(self) -> None:
        mem, pcp = self.host.mem, pages_of(self.host, self.zone)
        huge = pcp.list_of(self.counts.huge)
        self.queue = np.concatenate((huge.items() // PAGEBLOCK_PAGES, self.heads))
        sparse_vmemmap.own_tables(mem, vmemmap_sections(self.hs, self.heads))  # before the flags change
        frames = self._frames(pcp)
        map_frames(self.host, self.call, self.hs, self.heads, frames)
        mem.flags[self.heads] = 0
        self._free_up_to(self.counts.gone)
        kept = self.queue[self.counts.gone :]
        mem.assign_blocks(kept, Use.PCP)
        huge.pop(huge.size)
        huge.push(kept * PAGEBLOCK_PAGES)
        flush_oldest(self.host, pcp, self.counts.others)
        pcp.count, pcp.free_factor = self.counts.count, self.counts.factor

    def _frames(self, pcp: PerCpuPages) -> Pfns:
        """The frames of all pages, in order: what is on the list, then what the buddy gives; the rest stays listed."""
        mem, listed = self.host.mem, pcp.list_of(0)
        wanted = self.heads.size * self.counts.need
        first = listed.pop(min(listed.size, wanted))
        self._take(int(self.counts.refilled_at.size))
        came = np.concatenate((NO_PFNS, *self.taken))
        mem.assign_pages(first, Use.VMEMMAP)
        rest = came[wanted - first.size :]
        mem.assign_pages(rest, Use.PCP)
        listed.refill(rest)
        return np.concatenate((first, came[: wanted - first.size]))

    def _take(self, refills: int) -> None:
        """Refills one after the other: at once as many as unmovable pageblocks have pages for, then one that steals.

        ``hand``: pages that were taken early, as they surely will be; ``have``: those left in unmovable pageblocks.
        """
        mem, zone, batch = self.host.mem, self.zone, self.counts.batch
        if refills == 0:
            return
        own = listed_blocks(mem, zone, mem.nr_blocks, (Migrate.UNMOVABLE,))
        have = pages_without_steal(mem, zone) + own.size * PAGEBLOCK_PAGES
        left, hand = refills * batch, 0
        while left:
            pages = min(left, (hand + have) // batch * batch)
            if pages:
                have -= self._draw(pages - hand)
                hand = max(0, hand - pages)
                left -= pages
                continue
            self._free_up_to(int(self.counts.flushed[self.counts.refilled_at[refills - left // batch]]))
            if left >= hand + have + PAIR_PAGES and self._steal_pair(have):
                hand += have + PAIR_PAGES
                have = 0
                continue
            self._draw(batch - hand)
            have = _left_of(mem, int(self.taken[-1][-1]) // PAGEBLOCK_PAGES)
            left, hand = left - batch, 0

    def _draw(self, pages: int) -> int:
        if pages > 0:
            self.taken.append(take_pages(self.host.mem, self.zone, pages, Migrate.UNMOVABLE, Use.VMEMMAP))
        return max(0, pages)

    def _steal_pair(self, have: int) -> bool:
        """Take what unmovable pageblocks have left, and all of the pair that is stolen then, if it is one."""
        mem = self.host.mem
        pair = listed_blocks(mem, self.zone, 2, STOLEN, largest_first=True)
        if pair.size < 2 or pair[0] % 2 or pair[1] != pair[0] + 1:
            return False
        self._draw(have)
        mem.set_type(pair, Migrate.UNMOVABLE)
        mem.assign_blocks(pair, Use.VMEMMAP)
        self.taken.append(pages_in(pair))
        return True

    def _free_up_to(self, count: int) -> None:
        """The buddy has the leading pageblocks of the queue."""
        blocks = self.queue[self.freed : count]
        if blocks.size:
            self.host.mem.flags[blocks] = 0
            self.host.mem.assign_blocks(blocks, Use.BUDDY)
            self.freed = count


def _left_of(mem: MemoryMap, block: int) -> int:
    """Free pages of the unmovable pageblock that gave frames last, and of its buddy, if that was stolen too."""
    if mem.mt[block] != Migrate.UNMOVABLE:
        return 0
    other = block ^ 1
    stolen = mem.use[other] == Use.BUDDY and mem.mt[other] == Migrate.UNMOVABLE
    return int(mem.nfree[block]) + PAGEBLOCK_PAGES * int(stolen and mem.zone[other] == mem.zone[block])
