"""How much kernel memory must stay free so that huge pages can be given back: the cliff, and a curve around it."""

from dataclasses import dataclass

import numpy as np

from hugepool.forms.plans import HeadroomBody
from hugepool.mm.commands.commands import GrowTask, SetMaxHugePages, StartTask
from hugepool.mm.kernel.filemap import held
from hugepool.mm.kernel.hugetlb import check_size, persistent
from hugepool.mm.kernel.hugetlb_vmemmap import available_for_restore
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import ZONE_NORMAL, BlockFlag, Use
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.task_outcomes import TaskPages
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES, order_of
from hugepool.whatif.plans.search import Trial, attempt, largest
from hugepool.whatif.run import Progress


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """How many pages can be given back when so much is left."""

    left_bytes: int
    freed: int


@dataclass(frozen=True, slots=True)
class HeadroomDomain:
    """Nodes whose vmemmap is restored from the same zones: one node, or since 6.7 all together.

    Attributes:
        needed_bytes: the least that must be left above the watermarks of the kernel zones.
        available_bytes: what is left there now.
        reclaimable_bytes: clean page cache of the nodes; the driver takes it, too, before less is left.
        limited_by: what stops the shrink with one page less.
    """

    nodes: list[int]
    count: int
    needed_bytes: int
    available_bytes: int
    reclaimable_bytes: int
    limited_by: Reason | None
    curve: list[CurvePoint]


@dataclass(frozen=True, slots=True)
class Headroom:
    """What must stay free so that pages can be given back."""

    size: str
    count: int
    pages_per_hugepage: int
    domains: list[HeadroomDomain]


def headroom(host: Host, body: HeadroomBody, progress: Progress) -> Headroom:
    """For every node, or for all together where restores may use any: what must be left for ``count`` pages.

    A driver takes kernel memory on a copy until so much is left, then the pool is written; a search finds the least
    that all pages are given back with.

    Raises:
        MMError: EBUSY where this number cannot be given back even now, with the reason.
    """
    hs = check_size(host, order_of(body.size), body.size)
    count = max(0, hs.free_huge_pages - hs.resv_huge_pages) if body.count is None else body.count
    write = SetMaxHugePages(hs.order, max(0, persistent(hs) - count))
    now = attempt(host, write)
    freed = 0 if now.result is None else now.result.freed
    if count == 0:
        raise MMError("EBUSY", f"there is no free huge page of {body.size} to give back", freed=0)
    if freed < count:
        raise MMError("EBUSY", f"{freed} of {count} pages of {body.size} can be given back now; begin with fewer",
                      reason=now.reason, freed=freed)  # fmt: skip
    rows = {} if now.result is None else {row.node: row.freed for row in now.result.nodes if row.freed}
    domains = [[nid] for nid in rows] if host.profile.restore_thisnode else [list(rows)]
    answers = []
    for i, nodes in enumerate(domains, 1):
        answers.append(_Domain(host, write, nodes, sum(rows[nid] for nid in nodes)).answer(body.points))
        progress(i, len(domains))
    return Headroom(body.size, count, hs.nr_free_vmemmap_pages, answers)


class _Domain:
    """Nodes whose pages are restored from the same kernel zones."""

    def __init__(self, host: Host, write: SetMaxHugePages, nodes: list[int], count: int) -> None:
        self.host, self.write, self.nodes, self.count = host, write, nodes, count
        self.node = nodes[0] if host.profile.restore_thisnode else None
        self.now = available_for_restore(host, nodes[0])
        self.cached = held(host, Use.PAGE_CACHE, nodes)
        self.hs = host.hstates[write.order]
        self.most = min(self.now, count * self.hs.nr_free_vmemmap_pages)
        self.known: dict[int, tuple[int, Reason | None]] = {}
        self.host = self._driven(self.most).host  # the search goes on from what is surely enough

    def answer(self, points: int) -> HeadroomDomain:
        """The least that must be left, in pages above the watermarks, and the curve."""
        most = self.most
        near = max(0, most - self._guess())
        least = most - largest(0, most, lambda taken: self._freed(most - taken) == self.count, near)
        return HeadroomDomain(
            nodes=self.nodes,
            count=self.count,
            needed_bytes=least * PAGE_SIZE,
            available_bytes=self.now * PAGE_SIZE,
            reclaimable_bytes=self.cached * PAGE_SIZE,
            limited_by=self._shrunk(least - 1)[1] if least else None,
            curve=[
                CurvePoint(left * PAGE_SIZE, self._freed(left) if left < least else self.count)
                for left in self._around(least, points)
            ],
        )

    def _guess(self) -> int:
        """About what is needed: pages of movable zones are restored in full, others pay for each other."""
        mem, movable = self.host.mem, 0
        for zone in (
            zone for nid in self.nodes for zone in self.host.nodes[nid].zones if zone.type > ZONE_NORMAL
        ):
            span = mem.blocks_of(zone)
            free = (mem.use[span] == Use.HUGETLB) & ((mem.flags[span] & BlockFlag.FREE) != 0)
            movable += int(np.count_nonzero(free)) // (self.hs.pages // PAGEBLOCK_PAGES)
        return min(self.most, (min(movable, self.count) + 1) * self.hs.nr_free_vmemmap_pages)

    def _around(self, least: int, points: int) -> list[int]:
        """From nothing to twice the cliff, which is one of the points, as is the page before it."""
        most = min(self.most, max(2 * least, points))
        even = {round(most * i / (points - 1)) for i in range(points)}
        return sorted(even | {least, max(0, least - 1)})

    def _freed(self, left: int) -> int:
        return self._shrunk(left)[0]

    def _shrunk(self, left: int) -> tuple[int, Reason | None]:
        """What the write gives back with this number of pages left, and what stops it."""
        if left not in self.known:
            trial = attempt(self._driven(left).host, self.write)
            rows = [] if trial.result is None else trial.result.nodes
            freed = sum(row.freed for row in rows if row.node in self.nodes)
            self.known[left] = freed, trial.reason
        return self.known[left]

    def _driven(self, left: int) -> Trial[TaskPages]:
        """A driver has taken all kernel memory but this number of pages."""
        driver = GrowTask(
            self.host.next_pid,
            "kernel",
            node=self.node,
            at_most=left,
            zone_type=ZONE_NORMAL,
            until_node=self.node,
        )
        return attempt(self.host, driver, after=[StartTask("kernel", "driver", node=self.node)])
