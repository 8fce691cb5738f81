"""Fault injection with the kernel's words: probability, interval, times, space.

Source: lib/fault-inject.c should_fail() (5.14).  Requests for vmemmap are order 0, so ``space`` counts
pages; as in the kernel a request fails once ``space`` is no larger than it: ``space = n`` lets n - 1 pages pass
and fails the n-th.  Randomness comes from the host's own seed.
"""

from dataclasses import dataclass
from enum import StrEnum

from hugepool.mm.machine.errors import BadInput, NotFound


class FaultPoint(StrEnum):
    """Where requests can be made to fail."""

    VMEMMAP_RESTORE = "vmemmap-restore"
    VMEMMAP_PAGE_TABLE = "vmemmap-page-table"
    HUGEPAGE_ALLOC = "hugepage-alloc"
    MIGRATION_TARGET = "migration-target"
    VMEMMAP_HEAD_FRAME = "vmemmap-head-frame"


MAX_NAME = 40


def check_point(name: str) -> FaultPoint:
    """The fault point of a name.  Raises ENOENT when there is none."""
    try:
        return FaultPoint(name)
    except ValueError:
        points = [point.value for point in FaultPoint]
        known = ", ".join(points)
        raise NotFound(f"no fault point {name[:MAX_NAME]!r}; points are {known}", points=points) from None


@dataclass(slots=True)
class FaultAttr:
    """One armed fault point.

    Attributes:
        probability: percent, 0..100.
        interval: every n-th request that reaches the point may fail, >= 1.
        times: how many failures are left; -1 no limit.
        space: failing begins with the ``space``-th page; 0 and 1: at once.
        count: requests counted so far, for ``interval``.
        failures: failures injected so far.
        state: state of the point's own xorshift generator.
    """

    probability: int = 100
    interval: int = 1
    times: int = -1
    space: int = 0
    count: int = 0
    failures: int = 0
    state: int = 1

    def should_fail(self, pages: int = 1) -> bool:
        """Whether this request fails; advances the point's counters.

        Source: lib/fault-inject.c should_fail() (5.14).
        """
        if self.probability == 0 or self.times == 0:
            return False
        if self.space > pages:
            self.space -= pages
            return False
        if self.interval > 1:
            self.count += 1
            if self.count % self.interval:
                return False
        if self.probability < 100 and self._random() % 100 >= self.probability:
            return False
        if self.times > 0:
            self.times -= 1
        self.failures += 1
        return True

    def fails_all(self, requests: int) -> bool:
        """Whether it is sure that each of the next requests for one page fails."""
        enough = self.times < 0 or self.times >= requests
        return self.probability == 100 and self.interval == 1 and self.space <= 1 and enough

    @property
    def armed(self) -> bool:
        """Whether the point can still fail a request."""
        return self.probability > 0 and self.times != 0

    def _random(self) -> int:
        x = self.state
        x ^= (x << 13) & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= (x << 17) & 0xFFFFFFFFFFFFFFFF
        self.state = x
        return x >> 11


def make_fault(point: str, probability: int, interval: int, times: int, space: int, seed: int) -> FaultAttr:
    """Arm a point.

    Raises:
        NotFound: no such point.  BadInput: a value out of range.
    """
    number = list(FaultPoint).index(check_point(point))
    for name, value, low, high in (
        ("probability", probability, 0, 100),
        ("interval", interval, 1, 2**31 - 1),
        ("times", times, -1, 2**31 - 1),
        ("space", space, 0, 2**31 - 1),
    ):
        if not low <= value <= high:
            raise BadInput(f"must be {low}..{high}, not {value}", where=name)
    state = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 1) & 0xFFFFFFFFFFFFFFFF
    return FaultAttr(probability, interval, times, space, state=state or 1)
