"""The lists of one CPU for one zone as numbers: how far they fill and empty in a long row of the same requests.

Source: mm/page_alloc.c as in ``pcp``.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.pcp import (
    SMALL_LISTS,
    batch_size,
    flush_numbers,
    number_of,
    pages_of,
    part_to_flush,
    pcp_high,
)
from hugepool.mm.machine.mmzone import Migrate, Zone
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

Flags = npt.NDArray[np.bool_]
PER_SECTION = 64  # huge pages whose vmemmap one page table maps


@dataclass(slots=True)
class Growth:
    """What one CPU's lists for a zone do while huge pages are made one after the other.

    ``takes_huge``: the pages come from this zone; ``frames``: how many each frees into it; ``number``: the list of
    these; ``tables``: before which pages a page table is taken from it.
    """

    host: Host
    zone: Zone
    takes_huge: bool
    frames: int
    number: int
    tables: Flags
    sizes: dict[int, int] = field(default_factory=dict)
    flushed: dict[int, int] = field(default_factory=dict)
    refilled: int = 0
    count: int = 0
    factor: int = 0
    high: int = 0
    batch: int = 0
    huge: int = 0

    def __post_init__(self) -> None:
        self.high, self.batch = pcp_high(self.host, self.zone), batch_size(self.zone)
        self.huge = number_of(self.host.profile, PAGEBLOCK_ORDER, Migrate.MOVABLE)
        pcp = pages_of(self.host, self.zone)
        self.count, self.factor = pcp.count, pcp.free_factor
        self.sizes = {number: listed.size for number, listed in pcp.lists.items() if listed.size}

    def run(self) -> None:
        """Make all the pages; where the lists are as they were before, the same happens again."""
        at = np.flatnonzero(self.tables)
        odd = np.flatnonzero(np.diff(at) != PER_SECTION)
        begin = int(at[odd[-1] + 1]) if odd.size else int(at[0]) if at.size else 0
        last = int(at[-1]) if at.size else 0
        regular = last > begin
        seen: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        i, end = 0, int(self.tables.size)
        while i < end:
            if regular and i >= begin and self.tables[i]:
                if i + PER_SECTION <= end and self._section_without_flush():
                    i += PER_SECTION
                    continue
                key, totals = self._state(), self._totals()
                if key in seen:
                    before, then = seen.pop(key)
                    period = i - before
                    times = max(0, (last - i) // period)
                    self._repeat([now - old for now, old in zip(totals, then, strict=True)], times)
                    i += period * times
                    regular = False
                    if times:
                        continue
                seen[key] = i, totals
            self._page(bool(self.tables[i]))
            i += 1

    def _state(self) -> tuple[int, ...]:
        return (self.count, self.factor, *(self.sizes.get(number, 0) for number in range(SMALL_LISTS + 3)))

    def _totals(self) -> tuple[int, ...]:
        return (self.refilled, *(self.flushed.get(number, 0) for number in range(SMALL_LISTS + 3)))

    def _repeat(self, gained: list[int], times: int) -> None:
        self.refilled += gained[0] * times
        for number, pages in enumerate(gained[1:]):
            if pages:
                self.flushed[number] = self.flushed.get(number, 0) + pages * times

    def _section_without_flush(self) -> bool:
        """The pages of a section at once, where the lists cannot become full."""
        most = self.count + PER_SECTION * self.frames + 2 * PAGEBLOCK_PAGES + 2 * self.batch
        if self.factor or most >= self.high:
            return False
        if self.takes_huge:
            for _ in range(2 + PER_SECTION % 2):
                self._take_huge()
            left = PER_SECTION - 2 - PER_SECTION % 2
            have = self.sizes.get(self.huge, 0)
            refills = max(0, -(-(left - have) // 2))
            self._add(self.huge, 2 * refills - left, PAGEBLOCK_PAGES)
        self._take_table()
        self._add(self.number, PER_SECTION * self.frames, 1)
        return True

    def _add(self, number: int, blocks: int, size: int) -> None:
        self.sizes[number] = self.sizes.get(number, 0) + blocks
        self.count += blocks * size

    def _page(self, table: bool) -> None:
        if self.takes_huge:
            self._take_huge()
        if table:
            self._take_table()
        if self.frames:
            self._free()

    def _take_huge(self) -> None:
        self.factor >>= 1
        if not self.sizes.get(self.huge, 0):
            self._add(self.huge, 2, PAGEBLOCK_PAGES)
        self._add(self.huge, -1, PAGEBLOCK_PAGES)

    def _take_table(self) -> None:
        self.factor >>= 1
        if not self.sizes.get(0, 0):
            self.refilled += self.batch
            self._add(0, self.batch, 1)
        self._add(0, -1, 1)

    def _free(self) -> None:
        high, batch = self.high, self.batch
        if self.count + self.frames < high:
            self._add(self.number, self.frames, 1)
            return
        for _ in range(self.frames):
            self._add(self.number, 1, 1)
            if self.count < high:
                continue
            part, self.factor = part_to_flush(self.host.profile, self.factor, high, batch)
            for number, blocks in flush_numbers(
                self.host.profile, self.sizes, min(part, self.count), self.number
            ):
                self._add(number, -blocks, PAGEBLOCK_PAGES if number >= SMALL_LISTS else 1)
                self.flushed[number] = self.flushed.get(number, 0) + blocks
