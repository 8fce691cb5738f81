"""A row of blocks that go onto the lists of a CPU one after the other, as numbers: what is flushed between them.

Source: mm/page_alloc.c free_unref_page_commit() (5.14, 6.1, 6.12).
"""

from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.kernel.pcp_sizes import (
    flush_numbers,
    flush_size,
    limit,
    limit_after_free,
    limits,
    note_frees,
    order_of_list,
)
from hugepool.mm.machine.mmzone import Pfns, Zone
from hugepool.mm.machine.pcp_lists import PerCpuPages
from hugepool.mm.machine.state import Host


@dataclass(slots=True)
class Filling:
    """Blocks of one order of one zone that are freed in a row.

    ``numbers``: the list of each block; ``low``, ``top``: within these the limit of the lists moves; ``went``: which
    list gave how many blocks, in order; ``freed``: pages of these.
    """

    host: Host
    zone: Zone
    pcp: PerCpuPages
    numbers: Pfns
    order: int
    low: int = 0
    top: int = 0
    batch: int = 0
    freed: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    went: list[tuple[int, int]] = field(default_factory=list)

    def run(self) -> list[tuple[int, int]]:
        """Fill the lists; where they are as they were before, the same happens again."""
        self.low, self.top, self.batch = limits(self.host, self.zone)
        self.sizes = {number: listed.size for number, listed in self.pcp.lists.items() if listed.size}
        repeats = bool((self.numbers == self.numbers[0]).all())
        seen: dict[tuple[object, ...], tuple[int, int]] = {}
        done, end = 0, int(self.numbers.size)
        while done < end:
            step = self._until_full(end - done)
            self._add(done, step)
            done += step
            self._flush_if_full(int(self.numbers[done - 1]))
            if repeats and not self.zone.below_high:  # else what the zone has free changes the limit
                state = self._state()
                if state in seen:
                    done = self._repeat(done, end, *seen[state])
                    repeats = False
                seen[state] = done, self.freed
        return self.went

    def _until_full(self, left: int) -> int:
        """Blocks that go onto the lists before the limit can matter."""
        high = limit(self.host, self.zone, self.pcp, self.low, self.top)
        return min(left, max(1, -(-(high - self.pcp.count) // (1 << self.order))))

    def _add(self, done: int, step: int) -> None:
        first = int(self.numbers[done])
        part = self.numbers[done : done + step]
        if step == 1 or (part == first).all():
            self.sizes[first] = self.sizes.get(first, 0) + step
        else:
            for number, blocks in enumerate(np.bincount(part).tolist()):
                if blocks:
                    self.sizes[number] = self.sizes.get(number, 0) + blocks
        self.pcp.count += step << self.order
        note_frees(self.host, self.pcp, step, 1 << self.order, self.batch)

    def _flush_if_full(self, first: int) -> None:
        pcp, zone = self.pcp, self.zone
        high = limit_after_free(self.host, zone, pcp, self.batch, self.low, self.top)
        if pcp.count < high:
            return
        count = min(pcp.count, flush_size(self.host, pcp, high, self.batch))
        for number, blocks in flush_numbers(self.host.profile, self.sizes, count, first):
            self.sizes[number] -= blocks
            pcp.count -= blocks << order_of_list(number)
            self.freed += blocks << order_of_list(number)
            self._note(number, blocks)
        if zone.below_high and zone.nr_free + self.freed > zone.high + zone.lowmem_reserve[-1]:
            zone.below_high = False

    def _note(self, number: int, blocks: int) -> None:
        if self.went and self.went[-1][0] == number:
            blocks += self.went.pop()[1]
        self.went.append((number, blocks))

    def _state(self) -> tuple[object, ...]:
        pcp = self.pcp
        counters = (pcp.count, pcp.free_factor, pcp.free_count, pcp.high, pcp.alloc_factor)
        return (*counters, *sorted(self.sizes.items()))

    def _repeat(self, done: int, end: int, before: int, freed: int) -> int:
        """What happened since ``before`` happens again as long as it can; how many blocks are done then.

        All that went since then is of one list: others only become shorter, and are as long as they were.
        """
        times = (end - done) // (done - before)
        pages = times * (self.freed - freed)
        if pages:
            self._note(self.went[-1][0], pages >> self.order)
        self.freed += pages
        return done + times * (done - before)
