"""The lists of one CPU for one zone: free pages that the buddy does not know of, by order and type.

A list is used from its head, which is the page freed last.  The oldest page goes back to the buddy first.

Source: include/linux/mmzone.h struct per_cpu_pages (5.14, 6.1, 6.12).
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Pfns = npt.NDArray[np.int64]
NO_PFNS: Pfns = np.empty(0, np.int64)
PCP_ORDERS = (0, 1, 2, 3, 9)  # sizes that are kept on lists; the last one since 5.13
PCP_TYPES = 3  # unmovable, movable, reclaimable
SPARE = 64


class PageList:
    """First page frames of free blocks of one size, the oldest first and the list's head last."""

    __slots__ = ("_begin", "_end", "_items")

    def __init__(self, items: Pfns = NO_PFNS) -> None:
        self._items = items.copy()
        self._begin, self._end = 0, int(items.size)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PageList":
        """A copy has no spare room."""
        return PageList(self.items())

    def __eq__(self, other: object) -> bool:
        """Whether both have the same blocks in the same order."""
        return isinstance(other, PageList) and np.array_equal(self.items(), other.items())

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def size(self) -> int:
        """Blocks on the list."""
        return self._end - self._begin

    def items(self) -> Pfns:
        """All blocks, the head last."""
        return self._items[self._begin : self._end]

    def push(self, pfns: Pfns) -> None:
        """Put blocks at the head, one after the other."""
        if self._end + pfns.size > self._items.size:
            kept, need = self.items(), self.size + int(pfns.size)
            grown = np.empty(2 * need + SPARE, np.int64)
            grown[: kept.size] = kept
            self._items, self._begin, self._end = grown, 0, int(kept.size)
        self._items[self._end : self._end + pfns.size] = pfns
        self._end += int(pfns.size)

    def pop(self, count: int) -> Pfns:
        """Take up to ``count`` blocks from the head, the latest first."""
        count = min(count, self.size)
        taken = self._items[self._end - count : self._end][::-1].copy()
        self._end -= count
        return taken

    def pop_oldest(self, count: int) -> Pfns:
        """Take up to ``count`` blocks from the other end, the oldest first."""
        count = min(count, self.size)
        taken = self._items[self._begin : self._begin + count].copy()
        self._begin += count
        return taken

    def refill(self, pfns: Pfns) -> None:
        """Put blocks behind all others, so that the first of them is used first."""
        self._items = np.concatenate((pfns[::-1], self.items()))
        self._begin, self._end = 0, int(self._items.size)


@dataclass(slots=True, eq=False)
class PerCpuPages:
    """The lists of one CPU for one zone.

    ``count``: base pages on all of them.  ``free_factor`` (until 6.6), ``free_count``: how much was freed in a row;
    ``alloc_factor``: refills in a row (both since 6.7).  ``high``: what the lists may hold, where it moves (6.7+).
    ``lists``: by number, see ``pcp.number_of``.
    """

    count: int = 0
    free_factor: int = 0
    free_count: int = 0
    alloc_factor: int = 0
    high: int = 0
    lists: dict[int, PageList] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same; a list that is empty is as good as none."""
        if not isinstance(other, PerCpuPages):
            return False
        names = [f.name for f in fields(self) if f.name != "lists"]
        return all(getattr(self, n) == getattr(other, n) for n in names) and self._held() == other._held()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _held(self) -> dict[int, PageList]:
        return {number: listed for number, listed in self.lists.items() if listed.size}

    def list_of(self, number: int) -> PageList:
        """A list by its number; there when it is asked for."""
        found = self.lists.get(number)
        if found is None:
            found = self.lists[number] = PageList()
        return found
