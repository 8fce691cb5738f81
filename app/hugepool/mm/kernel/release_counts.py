"""Huge pages that are restored and freed one after the other, as numbers: when lists are refilled and flushed.

Each page takes frames off one list of the CPU and goes onto another one of the same zone.  A page brings more onto the
lists than it takes, and a flush takes off a little more than that.  So once the lists are full almost every page
flushes them, and those that do not follow from how far the lists are from their limit.

Source: mm/hugetlb.c update_and_free_pages_bulk() (5.14); mm/page_alloc.c as in ``pcp_sizes``.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.hugetlb_vmemmap import leading
from hugepool.mm.kernel.pcp_sizes import (
    flush_numbers,
    limits,
    number_of,
    order_of_list,
    pages_of,
    part_to_flush,
)
from hugepool.mm.machine.mmzone import Migrate, Zone
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

Counts = npt.NDArray[np.int64]
NONE: Counts = np.empty(0, np.int64)
MOST_PHASES = 16


@dataclass(slots=True)
class Releases:
    """What the lists of one CPU for a zone do while huge pages of the zone are given back.

    ``need``: frames of each; ``pages``: how many are given back at most; ``spare``: free pages above the low mark.

    After ``run``: ``done``: pages for which it holds; ``refilled_at``: the page that needed each refill of frames;
    ``flushed``: huge pages that went from the list to the buddy before each page; ``others``: blocks that other lists
    gave; ``gone``: huge pages that went to the buddy; ``count``, ``factor``: those of the lists.
    """

    host: Host
    zone: Zone
    need: int
    pages: int
    spare: int
    done: int = 0
    refilled_at: Counts = field(default_factory=lambda: NONE)
    flushed: Counts = field(default_factory=lambda: NONE)
    others: dict[int, int] = field(default_factory=dict)
    gone: int = 0
    out: int = 0
    count: int = 0
    factor: int = 0
    high: int = 0
    batch: int = 0
    huge: int = 0
    sizes: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        """Give pages back, as many as surely find the zone above its low mark."""
        pcp = pages_of(self.host, self.zone)
        self.high, _, self.batch = limits(self.host, self.zone)
        self.huge = number_of(self.host.profile, PAGEBLOCK_ORDER, Migrate.MOVABLE)
        self.sizes = {number: listed.size for number, listed in pcp.lists.items() if listed.size}
        if pcp.free_factor >> self.need:  # an earlier row of frees is remembered
            return
        frames = self.need * np.arange(1, self.pages + 1)
        listed = self.sizes.get(0, 0)
        refills = np.maximum(0, -(-(frames - listed) // self.batch))
        self.flushed = np.zeros(self.pages, np.int64)
        filled = pcp.count + PAGEBLOCK_PAGES * np.arange(1, self.pages + 1) + self.batch * refills - frames
        self._flush(filled)
        self._stay_above(refills)
        if self.done:
            self.count = int(filled[self.done - 1]) - self.out
            self.refilled_at = (listed + self.batch * np.arange(int(refills[self.done - 1]))) // self.need

    def _flush(self, filled: Counts) -> None:
        """When lists are flushed; ``filled``: the pages on them after each page, if nothing were flushed."""
        for _ in range(MOST_PHASES):
            if self.done == self.pages:
                return
            sizes = {**self.sizes, self.huge: 1}
            part, again = part_to_flush(self.host.profile, 0, self.high, self.batch)
            went = dict(flush_numbers(self.host.profile, sizes, part, self.huge))
            if went.pop(self.huge, 0) != 1 or went.get(0, 0):
                return
            often = min((sizes[number] // blocks for number, blocks in went.items()), default=self.pages)
            each = PAGEBLOCK_PAGES + sum(blocks << order_of_list(number) for number, blocks in went.items())
            flushes, last = self._phase(filled[self.done :] - self.out, each, often)
            for number, blocks in went.items():
                self.sizes[number] -= blocks * flushes
                self.others[number] = self.others.get(number, 0) + blocks * flushes
            self.gone += flushes
            self.out += flushes * each
            self.factor = again if last else 0

    def _phase(self, filled: Counts, each: int, often: int) -> tuple[int, bool]:
        """Pages until flushes take something else than ``each``: how many flush, and whether the last one does."""
        wait = int(np.searchsorted(filled, self.high))
        beyond = filled[wait:] - each * np.arange(filled.size - wait)
        skipped = np.maximum.accumulate(np.maximum(0, -((beyond - self.high) // each)))
        steps = np.diff(skipped, prepend=0)
        flushes = np.cumsum(steps == 0)
        pages = min(leading(steps <= 1), int(np.searchsorted(flushes, often)) + 1, steps.size)
        begin, end = self.done + wait, self.done + wait + pages
        self.flushed[self.done : begin] = self.gone
        self.flushed[begin:end] = self.gone + flushes[:pages] - (steps[:pages] == 0)
        self.done = end
        return (int(flushes[pages - 1]), bool(steps[pages - 1] == 0)) if pages else (0, False)

    def _stay_above(self, refills: Counts) -> None:
        """Leave out the pages from the first one on that might not find the zone above its low mark."""
        before = np.concatenate(([0], refills[: self.done]))[: self.done]
        spare = self.spare - self.batch * before + PAGEBLOCK_PAGES * self.flushed[: self.done]
        sure = leading(spare > 2 * max(self.batch, self.need))
        if sure < self.done:
            self.done, self.pages = 0, sure
            self.gone, self.out, self.others = 0, 0, {}
            self.run()
