"""The largest pool that leaves a stated amount of memory available to the system."""

from dataclasses import dataclass, replace
from typing import Literal

from hugepool.forms.plans import MaxPoolBody
from hugepool.fs.account import memory_lines
from hugepool.mm.commands.commands import SetMaxHugePages
from hugepool.mm.kernel import filemap
from hugepool.mm.kernel.hugetlb import check_size, persistent
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.outcomes import shallow
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import ULONG_MAX, order_of
from hugepool.mm.views.host_view import memory
from hugepool.whatif.plans.search import attempt, largest
from hugepool.whatif.run import Progress

Limit = Literal["keep"] | Reason


@dataclass(frozen=True, slots=True)
class NodePool:
    """Pages of a node."""

    node: int
    nr_hugepages: int


@dataclass(frozen=True, slots=True)
class OneMore:
    """What asking for one page more comes to."""

    nr_hugepages: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class LargestPool:
    """The largest pool that works.

    Attributes:
        nr_hugepages: what to write; null when not even the smallest pool leaves enough.
        available_bytes: MemAvailable afterwards.
        limited_by: what stops one page more: `keep`, or a reason; null: nothing does.
    """

    nr_hugepages: int | None
    nodes: list[NodePool]
    available_bytes: int
    free_bytes: int
    limited_by: Limit | None
    one_more: OneMore | None


@dataclass(frozen=True, slots=True)
class LargestPoolOfNode(LargestPool):
    """The same, when only this node's file is written."""

    node: int


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The largest pools that leave `keep_bytes` available.

    Attributes:
        available_bytes: MemAvailable now.
        without_reclaim: the largest pool for all nodes if no page cache were given up; null: there is none.
    """

    size: str
    keep_bytes: int
    available_bytes: int
    pool: LargestPool
    nodes: list[LargestPoolOfNode]
    without_reclaim: LargestPool | None


def max_pool(host: Host, body: MaxPoolBody, progress: Progress) -> MaxPool:
    """The largest pool written for all nodes, and for each node alone, that leaves ``keep`` bytes.

    A pool counts when it is reached in full and MemAvailable is ``keep`` or more afterwards.
    """
    order = check_size(host, order_of(body.size), body.size).order
    nodes = host.memory_nodes()
    progress(0, 1 + len(nodes))
    pool = _Search(host, order, body.keep, None).answer()
    progress(1, 1 + len(nodes))
    alone = []
    for i, nid in enumerate(nodes, 2):
        largest_alone = _Search(host, order, body.keep, nid).answer()
        alone.append(LargestPoolOfNode(**shallow(largest_alone), node=nid))
        progress(i, 1 + len(nodes))
    return MaxPool(
        body.size, body.keep, available(host), pool, alone, _without_reclaim(host, order, body.keep)
    )


def _without_reclaim(host: Host, order: int, keep: int) -> LargestPool | None:
    if not filemap.held(host, Use.PAGE_CACHE):
        return None
    held = fork(host)
    filemap.hold(held)
    return _Search(held, order, keep, None).answer()


def available(host: Host) -> int:
    """MemAvailable in bytes."""
    return memory_lines(host)["MemAvailable"] << 10


@dataclass(frozen=True, slots=True)
class _Pool:
    """What a write of some size came to."""

    size: int
    reached: bool
    reason: Reason | None
    nodes: list[NodePool]
    available_bytes: int
    free_bytes: int


class _Search:
    """The search for one target: all nodes, or one."""

    def __init__(self, host: Host, order: int, keep: int, nid: int | None) -> None:
        self.host, self.order, self.keep, self.nid = host, order, keep, nid
        self._known: dict[int, _Pool] = {}

    def answer(self) -> LargestPool:
        """The largest pool, what it leaves, and what one page more would do."""
        least, most = self._write(0), self._write(ULONG_MAX)
        if not least.reached:  # pages in use are the least; where none can be given back, what there is now
            least = self._write(least.size)
        if not least.reached:
            least = self._write(self._size(self.host))
        if least.available_bytes < self.keep:
            return replace(_largest_pool(least, "keep", None), nr_hugepages=None)
        found = largest(least.size, most.size, self._works, self._guess(least, most))
        more = self._write(found + 1)
        return _largest_pool(self._write(found), "keep" if more.reached else more.reason, more)

    def _works(self, count: int) -> bool:
        pool = self._write(count)
        return pool.reached and pool.available_bytes >= self.keep

    def _guess(self, least: _Pool, most: _Pool) -> int:
        """Where a straight line between the two ends meets ``keep``."""
        gone = least.available_bytes - most.available_bytes
        spare = least.available_bytes - self.keep
        return most.size if gone <= 0 else least.size + spare * (most.size - least.size) // gone

    def _write(self, count: int) -> _Pool:
        if count not in self._known:
            self._known[count] = self._tried(count)
        return self._known[count]

    def _tried(self, count: int) -> _Pool:
        trial = attempt(self.host, SetMaxHugePages(self.order, count, self.nid))
        machine, hs = trial.host, trial.host.hstates[self.order]
        return _Pool(
            size=self._size(machine),
            reached=trial.error is None and trial.reason is None,
            reason=trial.reason,
            nodes=[NodePool(nid, hs.nr_node[nid]) for nid in machine.memory_nodes()],
            available_bytes=available(machine),
            free_bytes=memory(machine.nodes).free_bytes,
        )

    def _size(self, host: Host) -> int:
        """What the file that is written shows."""
        hs = host.hstates[self.order]
        return persistent(hs) if self.nid is None else hs.nr_node[self.nid]


def _largest_pool(pool: _Pool, limit: Limit | None, more: _Pool | None) -> LargestPool:
    return LargestPool(
        nr_hugepages=pool.size,
        nodes=pool.nodes,
        available_bytes=pool.available_bytes,
        free_bytes=pool.free_bytes,
        limited_by=limit,
        one_more=None if more is None else OneMore(more.size, more.available_bytes),
    )
