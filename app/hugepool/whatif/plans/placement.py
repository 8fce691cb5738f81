"""Whether a virtual machine finds its huge pages, now and when all reservations are in use; else what must change."""

from dataclasses import dataclass
from functools import partial

from hugepool.forms.plans import PlacementBody
from hugepool.mm.commands.commands import CreateTask, SetMaxHugePages, TouchHugePages
from hugepool.mm.kernel.hugetlb import check_size
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.pool_outcomes import Resize
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.task_outcomes import StartedTask
from hugepool.mm.machine.units import PAGE_SIZE, order_of
from hugepool.whatif.plans.max_pool import NodePool
from hugepool.whatif.plans.search import Trial, attempt, largest
from hugepool.whatif.run import Progress


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """Free huge pages of a node.

    Attributes:
        free_when_touched: when programs have touched all that they have mapped.
    """

    node: int
    free_hugepages: int
    free_when_touched: int


@dataclass(frozen=True, slots=True)
class Start:
    """What starting the machine comes to: mmap, then a touch of every page."""

    fits: bool
    errno: str | None
    reason: Reason | None
    signal: str | None
    touched: int


@dataclass(frozen=True, slots=True)
class Change:
    """What to write so that the machine starts, tried on a copy.

    Attributes:
        write: the per-node `nr_hugepages` files, in this order.
        reclaimed_bytes: page cache that goes for it, and memory that goes to swap.
    """

    works: bool
    write: list[NodePool]
    missing: int
    limited_by: Reason | None
    reclaimed_bytes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Whether a virtual machine finds its huge pages.

    Attributes:
        change: null when it starts either way.
    """

    size: str
    count: int
    nodes: list[NodeRoom]
    now: Start
    when_touched: Start
    change: Change | None


def placement(host: Host, body: PlacementBody, progress: Progress) -> Placement:
    """The machine is started on copies: mmap, and every page touched."""
    hs = check_size(host, order_of(body.size), body.size)
    count = -(-body.memory // (hs.pages * PAGE_SIZE))
    if count == 0:
        raise BadInput("must be more than nothing", where="memory")
    nodes = tuple(sorted(set(body.nodes or host.memory_nodes())))
    start = CreateTask("hugetlb", "vm", hs.order, count, count, policy_mode="bind", policy_nodes=nodes)
    now = attempt(host, start)
    touched = _all_touched(host)
    later = attempt(touched, start)
    progress(1, 2)
    change = None if _fits(now) and _fits(later) else _change(host, hs, start)
    progress(2, 2)
    free = touched.hstates[hs.order].free_node
    rooms = [NodeRoom(nid, hs.free_node[nid], free[nid]) for nid in nodes]
    return Placement(body.size, count, rooms, _outcome(now), _outcome(later), change)


def _fits(trial: Trial[StartedTask]) -> bool:
    return trial.error is None and trial.result is not None and trial.result.signal is None


def _outcome(trial: Trial[StartedTask]) -> Start:
    error, started = trial.error, trial.result if isinstance(trial.result, StartedTask) else None
    return Start(
        fits=_fits(trial),
        errno=error.errno if error else None,
        reason=trial.reason,
        signal=None if started is None else started.signal,
        touched=(started and started.touched) or 0,
    )


def _untouched(host: Host) -> list[tuple[int, int, int]]:
    """Process, mapping, and how many pages of it are not touched yet."""
    return [
        (task.pid, mapping.map_id, mapping.count - len(mapping.pages))
        for task in host.tasks.values()
        for mapping in task.maps.values()
        if len(mapping.pages) < mapping.count
    ]


def _all_touched(host: Host) -> Host:
    """The host when every program has touched all it has mapped; one that gets SIGBUS does not stop the next."""
    for pid, map_id, left in _untouched(host):
        host = attempt(host, TouchHugePages(pid, map_id, left)).host
    return host


def _change(host: Host, hs: HState, start: CreateTask) -> Change:
    """The least growth of the pool on the machine's nodes with which it starts, tried; or what stops that.

    Nodes are filled up one after the other; of the last one the least number is searched for.
    """
    writes: list[SetMaxHugePages] = []
    reason, given_up = None, 0
    wanted = start.count + sum(left for _, _, left in _untouched(host))
    for nid in start.policy_nodes:
        before = host.hstates[hs.order].nr_node[nid]
        trial = attempt(host, SetMaxHugePages(hs.order, before + wanted, nid))
        most = trial.host.hstates[hs.order].nr_node[nid]
        reason = trial.reason or reason
        if _starts_with(host, start, nid, most):
            spare = largest(0, most - before, partial(_starts_with_less, host, start, nid, most), 0)
            writes.append(SetMaxHugePages(hs.order, most - spare, nid))
            given_up += _reclaimed_bytes(attempt(host, writes[-1]))
            return Change(
                works=True, write=_files(writes), missing=0, limited_by=None, reclaimed_bytes=given_up
            )
        if most > before:
            writes.append(SetMaxHugePages(hs.order, most, nid))
            given_up += _reclaimed_bytes(trial)
            host = trial.host
    grown = _all_touched(host).hstates[hs.order]
    free = sum(grown.free_node[nid] for nid in start.policy_nodes)
    missing = max(0, start.count - free)
    return Change(
        works=False, write=_files(writes), missing=missing, limited_by=reason, reclaimed_bytes=given_up
    )


def _reclaimed_bytes(trial: Trial[Resize]) -> int:
    return 0 if trial.result is None else trial.result.reclaimed_pages * PAGE_SIZE


def _starts_with_less(host: Host, start: CreateTask, nid: int, most: int, spare: int) -> bool:
    return _starts_with(host, start, nid, most - spare)


def _starts_with(host: Host, start: CreateTask, nid: int, count: int) -> bool:
    """Whether it starts with that number of pages, now and when all programs have touched what they mapped."""
    grown = attempt(host, SetMaxHugePages(start.order or host.default_order, count, nid)).host
    return _fits(attempt(grown, start)) and _fits(attempt(_all_touched(grown), start))


def _files(writes: list[SetMaxHugePages]) -> list[NodePool]:
    return [NodePool(write.nid, write.count) for write in writes if write.nid is not None]
