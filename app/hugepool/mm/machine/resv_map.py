"""Which pages of a file or of a private mapping are in its reserve map: a sorted list of regions.

For a file the map holds what is promised or there; for a private mapping it holds what is *used up*.
Source: mm/hugetlb.c region_chg(), region_add(), region_del(), struct file_region (5.14).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Region = tuple[int, int, int]  # first page, end (excluded), cgroup that is charged (0: none)
ENDLESS = 1 << 62


@dataclass(slots=True)
class ResvMap:
    """Regions in huge pages: disjoint, rising, neighbours of one cgroup joined."""

    regions: list[Region] = field(default_factory=list)

    def copy(self) -> "ResvMap":
        """An independent copy."""
        return ResvMap(list(self.regions))

    def pages(self, first: int = 0, end: int = ENDLESS) -> int:
        """Pages of a range that are in the map."""
        return sum(stop - start for start, stop, _ in self._within(first, end))

    def __contains__(self, index: int) -> bool:
        return self.pages(index, index + 1) == 1

    def __iter__(self) -> Iterator[int]:
        return (index for start, stop, _ in self.regions for index in range(start, stop))

    def add(self, first: int, end: int, cgroup: int = 0) -> None:
        """Enter what is missing of a range, charged to a cgroup."""
        gaps = []
        at = first
        for start, stop, _ in self._within(first, end):
            if at < start:
                gaps.append((at, start, cgroup))
            at = stop
        if at < end:
            gaps.append((at, end, cgroup))
        if gaps:
            low, high = self._span(first, end)
            low, high = max(0, low - 1), min(len(self.regions), high + 1)  # the neighbours may join
            self.regions[low:high] = _joined(sorted([*self.regions[low:high], *gaps]))

    def remove(self, first: int, end: int = ENDLESS) -> Counter[int]:
        """Take a range out; pages that were in the map, by the cgroup they were charged to."""
        low, high = self._span(first, end)
        gone: Counter[int] = Counter()
        kept = []
        for start, stop, cgroup in self.regions[low:high]:
            gone[cgroup] += min(stop, end) - max(start, first)
            kept += [(start, first, cgroup)] if start < first else []
            kept += [(end, stop, cgroup)] if stop > end else []
        self.regions[low:high] = kept
        return gone

    def _span(self, first: int, end: int) -> tuple[int, int]:
        """The slice of regions that overlap a range."""
        low = bisect_right(self.regions, first, key=lambda region: region[1])
        high = low
        while high < len(self.regions) and self.regions[high][0] < end:
            high += 1
        return low, high

    def _within(self, first: int, end: int) -> Iterator[Region]:
        low, high = self._span(first, end)
        for start, stop, cgroup in self.regions[low:high]:
            yield max(start, first), min(stop, end), cgroup


def _joined(regions: Iterable[Region]) -> list[Region]:
    out: list[Region] = []
    for start, stop, cgroup in regions:
        if out and out[-1][1] == start and out[-1][2] == cgroup:
            out[-1] = (out[-1][0], stop, cgroup)
        else:
            out.append((start, stop, cgroup))
    return out
