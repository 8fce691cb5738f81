"""The lists of one CPU for one zone as numbers: how far they fill and empty in a long row of the same requests.

Source: mm/page_alloc.c as in ``pcp``.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.pcp_sizes import (
    SMALL_LISTS,
    batch_size,
    flush_numbers,
    number_of,
    order_of_list,
    pages_of,
    part_to_flush,
    pcp_high,
)
from hugepool.mm.machine.mmzone import Migrate, Zone
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

Counts = npt.NDArray[np.int64]
PER_SECTION = 64  # huge pages whose vmemmap one page table maps


@dataclass(slots=True)
class Growth:
    """What one CPU's lists for a zone do while huge pages are made one after the other.

    ``takes_huge``: the pages come from this zone; ``frames``: how many each frees into it; ``number``: the list of
    these; ``tables``: how many page tables are taken from it before the frames of each page are freed, and after all.
    """

    host: Host
    zone: Zone
    takes_huge: bool
    frames: int
    number: int
    tables: Counts
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
        end = int(self.tables.size) - 1
        begin, last = self._regular_span(end)
        seen: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        i = 0
        while i < end:
            if begin <= i < last and (i - begin) % PER_SECTION == 0:
                if i + PER_SECTION <= last and self._section_without_flush(i):
                    i += PER_SECTION
                    continue
                key, totals = self._state(), self._totals()
                if key in seen:
                    before, then = seen[key]
                    times = (last - i) // (i - before)
                    self._repeat([now - old for now, old in zip(totals, then, strict=True)], times)
                    i += (i - before) * times
                    begin = end
                    continue
                seen[key] = i, totals
            self._page(int(self.tables[i]))
            i += 1
        for _ in range(int(self.tables[end])):
            self._take_table()

    def _regular_span(self, end: int) -> tuple[int, int]:
        """Between which pages tables are taken in the same way from section to section."""
        again = self.tables[: max(0, end - PER_SECTION)] == self.tables[PER_SECTION : max(PER_SECTION, end)]
        odd = np.flatnonzero(~again)
        return (int(odd[-1]) + 1 if odd.size else 0), end

    def pages_flushed(self) -> int:
        """Pages that lists gave back."""
        return sum(blocks << order_of_list(number) for number, blocks in self.flushed.items())

    def _state(self) -> tuple[int, ...]:
        return (self.count, self.factor, *(self.sizes.get(number, 0) for number in range(SMALL_LISTS + 3)))

    def _totals(self) -> tuple[int, ...]:
        return (self.refilled, *(self.flushed.get(number, 0) for number in range(SMALL_LISTS + 3)))

    def _repeat(self, gained: list[int], times: int) -> None:
        self.refilled += gained[0] * times
        for number, pages in enumerate(gained[1:]):
            if pages:
                self.flushed[number] = self.flushed.get(number, 0) + pages * times

    def _section_without_flush(self, first: int) -> bool:
        """The pages of a section at once, where the lists cannot become full."""
        tables = self.tables[first : first + PER_SECTION]
        most = (
            self.count
            + PER_SECTION * self.frames
            + 2 * PAGEBLOCK_PAGES
            + (1 + int(tables.sum())) * self.batch
        )
        if self.factor or most >= self.high:
            return False
        if self.takes_huge:
            for _ in range(2 + PER_SECTION % 2):
                self._take_huge()
            left = PER_SECTION - 2 - PER_SECTION % 2
            have = self.sizes.get(self.huge, 0)
            refills = max(0, -(-(left - have) // 2))
            self._add(self.huge, 2 * refills - left, PAGEBLOCK_PAGES)
        self._take_tables_of(tables)
        return True

    def _take_tables_of(self, tables: Counts) -> None:
        """Tables and frames of a section, nothing of which is flushed."""
        done = 0
        for i in np.flatnonzero(tables).tolist():
            self._add(self.number, (i - done) * self.frames, 1)
            done = i
            for _ in range(int(tables[i])):
                self._take_table()
        self._add(self.number, (PER_SECTION - done) * self.frames, 1)

    def _add(self, number: int, blocks: int, size: int) -> None:
        self.sizes[number] = self.sizes.get(number, 0) + blocks
        self.count += blocks * size

    def _page(self, tables: int) -> None:
        if self.takes_huge:
            self._take_huge()
        for _ in range(tables):
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
