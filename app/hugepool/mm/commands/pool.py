"""Pool commands: the outcome of a resize in numbers and reasons."""

from dataclasses import asdict

from hugepool.mm.commands import why
from hugepool.mm.commands.commands import Demote, SetMaxHugePages, SetOvercommit
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import hugetlb
from hugepool.mm.kernel.demote import demote_pages
from hugepool.mm.kernel.hugetlb_page import ResizeResult
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.outcomes import counters, shallow, vmemmap_of
from hugepool.mm.machine.pool_outcomes import (
    Demotion,
    NodeDelta,
    NodeReason,
    Overcommit,
    Resize,
    Shortfall,
    SizedCounters,
)
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import ULONG_MAX


@handles(SetMaxHugePages)
def set_max_huge_pages(host: Host, call: Call, cmd: SetMaxHugePages) -> Resize:
    """Resize a pool.

    Raises:
        MMError: ENOENT for a size or node the host has not; ENOMEM with ``result`` when vmemmap could not be
            restored: what could be freed is freed, the refused pages are back as surplus.
    """
    hs = hstate(host, cmd.order)
    if not 0 <= cmd.count <= ULONG_MAX:
        raise BadInput(f"must be 0..2**64-1, not {cmd.count}", where="count")
    allowed = _allowed_nodes(host, cmd)
    before = counters(hs)
    result = hugetlb.set_max_huge_pages(host, call, hs, cmd.count, cmd.nid, allowed)
    answer = Resize(
        requested=cmd.count,
        before=before,
        after=counters(hs),
        allocated=result.allocated,
        freed=result.freed,
        refused=result.refused,
        converted_surplus=result.converted_surplus,
        vmemmap=vmemmap_of(call),
        nodes=[NodeDelta(nid, **asdict(row)) for nid, row in sorted(result.nodes.items())],
        full_nodes=sorted(call.full_nodes),
        shortfall=_shortfall(host, hs, cmd, result, allowed),
    )
    call.emit(
        Event.POOL_RESIZED,
        size=hs.size,
        requested=cmd.count,
        node=cmd.nid,
        before=asdict(before),
        after=asdict(answer.after),
    )
    if result.refused:
        raise _refusal(result, answer)
    return answer


@handles(SetOvercommit)
def set_overcommit(host: Host, call: Call, cmd: SetOvercommit) -> Overcommit:
    """Set nr_overcommit_hugepages.  Raises EINVAL for a gigantic size.

    Source: mm/hugetlb.c nr_overcommit_hugepages_store() (5.14).
    """
    hs = hstate(host, cmd.order)
    if hs.gigantic:
        raise BadInput("gigantic pages cannot be overcommitted", reason=Reason.GIGANTIC_PAGE)
    if not 0 <= cmd.count <= ULONG_MAX:
        raise BadInput(f"must be 0..2**64-1, not {cmd.count}", where="count")
    before = counters(hs)
    hs.nr_overcommit_huge_pages = cmd.count
    call.emit(Event.OVERCOMMIT_SET, size=hs.size, count=cmd.count)
    return Overcommit(cmd.count, before, counters(hs))


@handles(Demote)
def demote(host: Host, call: Call, cmd: Demote) -> Demotion:
    """Demote free gigantic pages; success even when there was nothing to demote.

    Raises:
        MMError: ENOENT on kernels or sizes without the file; ENOMEM when vmemmap could not be restored, EBUSY when
            more pages are reserved than free and none is free (pages demoted before stay so).
    """
    hs = hstate(host, cmd.order)
    smaller = [other for order, other in host.hstates.items() if order < cmd.order]
    if not host.profile.demote or not smaller:
        raise MMError("ENOENT", f"{hs.size} has no demote file on this kernel")
    if not 0 <= cmd.count <= ULONG_MAX:
        raise BadInput(f"must be 0..2**64-1, not {cmd.count}", where="count")
    allowed = _allowed_nodes(host, SetMaxHugePages(cmd.order, cmd.count, cmd.nid))
    before = counters(hs)
    done = demote_pages(host, call, hs, smaller[0], cmd.count, allowed)
    target = SizedCounters(**shallow(counters(smaller[0])), size=smaller[0].size)
    answer = Demotion(cmd.count, done.pages, before, counters(hs), target, vmemmap_of(call))
    call.emit(Event.HUGE_PAGES_DEMOTED, size=hs.size, count=done.pages)
    if done.failure:
        raise MMError("ENOMEM", f"{done.pages} of {cmd.count} pages demoted, then no memory for vmemmap on node "
                      f"{done.failure.node}",
                      reason=Reason.INJECTED_FAULT if done.failure.injected else Reason.VMEMMAP_RESTORE,
                      result=answer, **asdict(done.failure))  # fmt: skip
    if done.none_free:
        raise MMError("EBUSY", f"no free huge page of {hs.size}, and {hs.resv_huge_pages} are reserved",
                      reason=Reason.ALL_FREE_PAGES_RESERVED, result=answer)  # fmt: skip
    return answer


def hstate(host: Host, order: int) -> HState:
    """The huge page size of an order.  Raises ENOENT when the machine has none."""
    return hugetlb.check_size(host, order, str(order))


def _allowed_nodes(host: Host, cmd: SetMaxHugePages) -> list[int]:
    have = host.memory_nodes()
    if cmd.nid is not None:
        if cmd.nid not in have:
            raise MMError("ENOENT", f"node {cmd.nid} has no memory on this host", node=cmd.nid)
        return [cmd.nid]
    if cmd.mempolicy is None:
        return have
    unknown = sorted(set(cmd.mempolicy) - {node.nid for node in host.nodes})
    allowed = sorted(set(cmd.mempolicy) & set(have))
    if unknown or not allowed:
        raise BadInput(f"no memory on nodes {unknown or list(cmd.mempolicy)}", where="mempolicy")
    return allowed


def _shortfall(
    host: Host, hs: HState, cmd: SetMaxHugePages, result: ResizeResult, allowed: list[int]
) -> Shortfall | None:
    found = _missing(hs, cmd, result, allowed)
    if found is None:
        return None
    missing, reason, nodes = found
    said = why.of_pool(host, hs, cmd.count, cmd.nid, nodes)
    return Shortfall(missing, reason, nodes, said.summary, said.remedies)


def _missing(
    hs: HState, cmd: SetMaxHugePages, result: ResizeResult, allowed: list[int]
) -> tuple[int, Reason | None, list[NodeReason]] | None:
    """How many pages are missing or too many, and why: for the host, and for each node that says no."""
    now = hs.nr_huge_pages if cmd.nid is None else hs.nr_node[cmd.nid]
    persistent = hs.persistent if cmd.nid is None else now - hs.surplus_node[cmd.nid]
    if result.stopped:
        nodes = [NodeReason(nid, reason) for nid, reason in sorted(result.stopped.items())]
        return max(0, cmd.count - persistent), nodes[0].reason, nodes
    if now <= cmd.count or result.converted_surplus or result.allocated:
        return None  # the persistent size is what was asked for
    nids = range(hs.nr_nodes) if cmd.nid is None else [cmd.nid]
    nodes = [NodeReason(n, _why_kept(hs, n, result, allowed)) for n in nids if hs.nr_node[n]]
    reasons = [row.reason for row in nodes]
    return now - cmd.count, next((reason for reason in _KEPT_ORDER if reason in reasons), None), nodes


_KEPT_ORDER = (
    Reason.VMEMMAP_RESTORE,
    Reason.INJECTED_FAULT,
    Reason.IN_USE,
    Reason.RESERVED,
    Reason.SURPLUS_NOT_RETRIED,
    Reason.OTHER_NODE,
)


def _why_kept(hs: HState, nid: int, result: ResizeResult, allowed: list[int]) -> Reason:
    """Why a node still has pages after a shrink."""
    if nid in result.failures:
        return Reason.INJECTED_FAULT if result.failures[nid].injected else Reason.VMEMMAP_RESTORE
    if nid not in allowed:
        return Reason.OTHER_NODE
    if hs.nr_node[nid] > hs.free_node[nid]:
        return Reason.IN_USE
    if hs.resv_huge_pages:
        return Reason.RESERVED
    return Reason.SURPLUS_NOT_RETRIED if hs.surplus_node[nid] or hs.surplus_huge_pages else Reason.OTHER_NODE


def _refusal(result: ResizeResult, answer: Resize) -> MMError:
    nid, failure = min(result.failures.items())
    tried = result.freed + result.refused
    nodes = ", ".join(str(n) for n in sorted(result.failures))
    plural = "nodes" if len(result.failures) > 1 else "node"
    because = (
        "a fault was injected" if failure.injected else f"no memory for their vmemmap on {plural} {nodes}"
    )
    return MMError(
        "ENOMEM",
        f"{result.refused} of {tried} huge pages could not be freed: {because}",
        reason=Reason.INJECTED_FAULT if failure.injected else Reason.VMEMMAP_RESTORE,
        result=answer,
        node=nid,
        pages_needed=failure.pages_needed,
        pages_available=failure.pages_available,
    )
