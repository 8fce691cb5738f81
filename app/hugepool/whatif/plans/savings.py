"""What freeing the vmemmap of a pool gives: gross, page tables, net, and where the memory lands."""

from dataclasses import dataclass

from hugepool.forms.plans import SavingsBody
from hugepool.mm.commands.commands import SetMaxHugePages
from hugepool.mm.kernel.hugetlb import check_size
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.pool_outcomes import Resize
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGE_SIZE, order_of
from hugepool.mm.views.host_view import memory
from hugepool.whatif.plans.search import attempt
from hugepool.whatif.run import Progress


@dataclass(frozen=True, slots=True)
class ZoneSavings:
    """What a zone has more of."""

    zone: str
    net_bytes: int


@dataclass(frozen=True, slots=True)
class NodeSavings:
    """What a node has more of."""

    node: int
    hugepages: int
    net_bytes: int
    zones: list[ZoneSavings]


@dataclass(frozen=True, slots=True)
class Savings:
    """What freeing the vmemmap gives.

    Attributes:
        possible: how many of them can be allocated; all figures are of these.
        assumed: the host does not free vmemmap; the figures are as if it did.
        total_gained_bytes: what MemTotal grows by.
    """

    size: str
    count: int
    possible: int
    assumed: bool
    pages_freed_per_hugepage: int
    gross_bytes: int
    page_table_bytes: int
    net_bytes: int
    pool_bytes: int
    total_gained_bytes: int
    nodes: list[NodeSavings]


def savings(host: Host, body: SavingsBody, progress: Progress) -> Savings:
    """``count`` more pages on two copies, with and without the feature, compared zone by zone.

    Raises:
        MMError: EOPNOTSUPP where the kernel cannot do it on this machine (``struct page`` crosses pages).
    """
    hs = check_size(host, order_of(body.size), body.size)
    if not host.vmemmap_supported:
        raise MMError("EOPNOTSUPP", "struct page crosses page boundaries here: its pages cannot be freed")
    without, given = _switched(host, hs.order, on=False), _switched(host, hs.order, on=True)
    plain, freeing = _grown(without, body, body.count), _grown(given, body, body.count)
    count = min(plain.pool.allocated, freeing.pool.allocated)
    if count < body.count:  # compare what both can have
        plain, freeing = _grown(without, body, count), _grown(given, body, count)
    progress(1, 1)
    vmemmap = freeing.pool.vmemmap
    gross, tables = vmemmap.pages_freed * PAGE_SIZE, vmemmap.page_table_pages * PAGE_SIZE
    return Savings(
        size=body.size,
        count=body.count,
        possible=count,
        assumed=not host.optimize_enabled,
        pages_freed_per_hugepage=given.hstates[hs.order].nr_free_vmemmap_pages,
        gross_bytes=gross,
        page_table_bytes=tables,
        net_bytes=gross - tables,
        pool_bytes=count * hs.pages * PAGE_SIZE,
        total_gained_bytes=memory(freeing.host.nodes).total_bytes - memory(plain.host.nodes).total_bytes,
        nodes=[_node(nid, plain, freeing) for nid in host.memory_nodes()],
    )


def _switched(host: Host, order: int, *, on: bool) -> Host:
    """A copy with the feature on or off, as if it had been booted so."""
    copy = fork(host)
    copy.optimize_enabled = on
    if on:
        copy.hstates[order].nr_free_vmemmap_pages = host.profile.freeable_vmemmap_pages(order)
    return copy


def _grown(host: Host, body: SavingsBody, count: int) -> "_Grown":
    hs = host.hstates[order_of(body.size) or 0]
    known = body.node is not None and body.node < len(hs.nr_node)
    now = hs.nr_node[body.node or 0] if known else hs.nr_huge_pages
    all_persistent = SetMaxHugePages(
        hs.order, hs.nr_huge_pages
    )  # else surplus counts among the pages asked for
    trial = attempt(host, SetMaxHugePages(hs.order, now + count, body.node), after=[all_persistent])
    if trial.error is not None:
        raise trial.error
    if trial.result is None:
        raise AssertionError("a growth without an answer")
    return _Grown(trial.host, trial.result)


@dataclass(frozen=True, slots=True)
class _Grown:
    """A copy with more pages, and what growing its pool did."""

    host: Host
    pool: Resize


def _node(nid: int, plain: _Grown, freeing: _Grown) -> NodeSavings:
    """What a node's zones have more of, with the feature."""
    zones = []
    for before, after in zip(plain.host.nodes[nid].zones, freeing.host.nodes[nid].zones, strict=True):
        if after.present:
            more = after.nr_free + after.nr_pcp - before.nr_free - before.nr_pcp
            zones.append(ZoneSavings(after.name, more * PAGE_SIZE))
    allocated = next((row.allocated for row in freeing.pool.nodes if row.node == nid), 0)
    return NodeSavings(nid, allocated, sum(zone.net_bytes for zone in zones), zones)
