"""In which order the buddy hands out its free pageblocks.

A list of the buddy is used from its head, and what is freed goes there; memory that is brought online, and what comes
back from isolation, goes to the tail.  As booted, the lowest pageblock is first.  The order is a stamp for each
pageblock: 0 as booted, above for the head, the later the higher, below for the tail, the later the lower.

Source: mm/page_alloc.c __free_one_page(), FPI_TO_TAIL, move_to_free_list() (5.14).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Blocks = npt.NDArray[np.int64]
NONE: Blocks = np.empty(0, np.int64)


def _enlarged(values: Blocks, size: int) -> Blocks:
    larger = np.zeros(size, np.int64)
    larger[: values.size] = values
    return larger


class Stamped:
    """Pageblocks of one zone in the order they were stamped; those stamped again since, or taken, are stale."""

    __slots__ = ("_blocks", "_stamps", "size")

    def __init__(self) -> None:
        self._blocks, self._stamps, self.size = NONE, NONE, 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Stamped":
        """A copy has no spare room."""
        other = Stamped()
        other.push(*self.entries(0, self.size))
        return other

    def is_full(self, more: int) -> bool:
        """Whether this number more needs more room."""
        return self.size + more > self._blocks.size

    def push(self, blocks: Blocks, stamps: Blocks) -> None:
        """Add pageblocks, the latest at the end."""
        need = self.size + blocks.size
        if need > self._blocks.size:
            room = max(need, 2 * self.size, 64)
            self._blocks, self._stamps = _enlarged(self._blocks, room), _enlarged(self._stamps, room)
        self._blocks[self.size : need] = blocks
        self._stamps[self.size : need] = stamps
        self.size = need

    def entries(self, begin: int, end: int) -> tuple[Blocks, Blocks]:
        """Pageblocks and stamps of some entries."""
        return self._blocks[begin:end], self._stamps[begin:end]

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drop all entries but some."""
        count = int(mask.sum())
        self._blocks[:count] = self._blocks[: self.size][mask]
        self._stamps[:count] = self._stamps[: self.size][mask]
        self.size = count


class FreeOrder:
    """Stamps by pageblock, and by zone what lies at the head and at the tail of its lists.

    ``booted_hint``: by zone, no pair of pageblocks that is free since the boot lies below.
    """

    def __init__(self, nr_blocks: int) -> None:
        self.stamp: Blocks = np.zeros(nr_blocks, np.int64)
        self.next_stamp = 1
        self.head: list[Stamped] = []
        self.tail: list[Stamped] = []
        self.booted_hint: list[int] = []

    def add_zone(self) -> None:
        """Register the next zone."""
        self.head.append(Stamped())
        self.tail.append(Stamped())
        self.booted_hint.append(0)

    def grow(self, nr_blocks: int) -> None:
        """Make room for more pageblocks."""
        self.stamp = _enlarged(self.stamp, nr_blocks)

    def reset(self) -> None:
        """Everything is as booted."""
        self.stamp[:] = 0
        self.next_stamp = 1
        self.booted_hint = [0] * len(self.booted_hint)
        for listed in (*self.head, *self.tail):
            listed.size = 0

    def put_first(self, blocks: Blocks, zone_ids: npt.NDArray[np.int16]) -> None:
        """Pageblocks were freed, one after the other (``zone_ids``: zone index + 1, 0 none)."""
        self._put(blocks, zone_ids, self.head, +1)

    def put_last(self, blocks: Blocks, zone_ids: npt.NDArray[np.int16]) -> None:
        """Pageblocks were put at the tail, one after the other."""
        self._put(blocks, zone_ids, self.tail, -1)

    def _put(self, blocks: Blocks, zone_ids: npt.NDArray[np.int16], lists: list[Stamped], sign: int) -> None:
        stamps = sign * np.arange(self.next_stamp, self.next_stamp + blocks.size)
        self.next_stamp += int(blocks.size)
        self.stamp[blocks] = stamps
        for zone_id in np.unique(zone_ids[zone_ids > 0]).tolist():
            mine = zone_ids == zone_id
            listed = lists[zone_id - 1]
            if listed.is_full(int(mine.sum())):
                listed.keep(self._fresh(listed))
            listed.push(blocks[mine], stamps[mine])

    def _fresh(self, listed: Stamped) -> npt.NDArray[np.bool_]:
        blocks, stamps = listed.entries(0, listed.size)
        fresh: npt.NDArray[np.bool_] = self.stamp[blocks] == stamps
        return fresh

    def sorted(self, blocks: Blocks) -> Blocks:
        """Pageblocks from the head of a list to its tail."""
        in_order: Blocks = blocks[np.lexsort((blocks, -self.stamp[blocks]))]
        return in_order

    def listed(self, index: int) -> Blocks:
        """Pageblocks of a zone's lists that were not stamped again since."""
        lists = (self.head[index], self.tail[index])
        return np.concatenate([listed.entries(0, listed.size)[0][self._fresh(listed)] for listed in lists])

    def restore(self, free: Blocks, zone_ids: npt.NDArray[np.int16]) -> None:
        """Find the lists of free pageblocks again from their stamps."""
        by_age = np.argsort(np.abs(self.stamp[free]), kind="stable")
        free, zone_ids = free[by_age], zone_ids[by_age]
        for lists, sign in ((self.head, +1), (self.tail, -1)):
            for index, listed in enumerate(lists):
                mine = free[(zone_ids == index + 1) & (np.sign(self.stamp[free]) == sign)]
                listed.push(mine, self.stamp[mine])
