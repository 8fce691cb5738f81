"""Figures are kept for every revision: packed and unpacked they are the same, and say in which state a host is."""

from hypothesis import given
from hypothesis import strategies as st

from hugepool.fs.account import available_kb
from hugepool.fs.figures import (
    Figures,
    NodeFigures,
    NodePool,
    PoolFigures,
    figures,
    numbers_of,
    pack,
    series,
    states,
    unpack,
)
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import ULONG_MAX

COUNT = st.integers(0, 2**64 - 1)
PAGES = st.integers(0, 2**40)


def pools(nr: int) -> st.SearchStrategy[tuple[PoolFigures, ...]]:
    one = st.builds(PoolFigures, st.sampled_from((9, 18)), *([COUNT] * 7))
    return st.tuples(*([one] * nr))


@st.composite
def any_figures(draw: st.DrawFn) -> Figures:
    nr_pools, nr_nodes = draw(st.integers(0, 2)), draw(st.integers(1, 4))
    on_node = st.tuples(*([st.builds(NodePool, COUNT, COUNT, COUNT)] * nr_pools))
    nodes = tuple(NodeFigures(nid, draw(PAGES), draw(PAGES), draw(on_node)) for nid in range(nr_nodes))
    saved = draw(st.integers(-(2**40), 2**40))
    before, after = ((draw(PAGES), draw(PAGES), draw(PAGES)) for _ in range(2))
    return Figures(*before, saved, *after, draw(st.booleans()), draw(pools(nr_pools)), nodes)


@given(any_figures())
def test_figures_come_back_as_they_were(found: Figures) -> None:
    assert unpack(pack(found)) == found


def machine() -> Host:
    spec = HostSpec((NodeSpec(2 << 30), NodeSpec(2 << 30)), cmdline="hugetlb_free_vmemmap=on")
    return boot(spec, Call())


def test_figures_are_those_of_the_host() -> None:
    host = machine()
    apply(host, c.SetMaxHugePages(9, 64))
    found = figures(host, (), None)
    pool, hs = found.pools[0], host.hstates[9]
    assert (pool.nr, pool.free, pool.max, pool.asked) == (64, 64, 64, 64)
    assert [part.pools[0].nr for part in found.nodes] == hs.nr_node
    assert found.free_pages == sum(zone.nr_free for zone in host.zones)
    assert found.available_pages == available_kb(host) // 4
    assert found.saved_pages == 64 * 6 - found.table_pages
    assert found.vmemmap_freeing


def test_what_was_asked_for_is_remembered_until_something_else_is() -> None:
    host = machine()
    first = figures(host, apply(host, c.SetMaxHugePages(9, 99_999)).events, None)
    assert first.pools[0].asked == 99_999 > first.pools[0].nr
    assert "pool-short" in states(first)
    later = figures(host, apply(host, c.SetMinFreeKbytes(9000)).events, first)
    assert later.pools[0].asked == 99_999
    node = figures(host, apply(host, c.SetMaxHugePages(9, 5, nid=1)).events, later)
    assert node.pools[0].asked == host.hstates[9].nr_node[0] + 5
    assert "pool-short" not in states(node)
    most = figures(host, apply(host, c.SetMaxHugePages(9, ULONG_MAX)).events, node)
    assert most.pools[0].asked == ULONG_MAX


def test_states_name_what_somebody_should_look_at() -> None:
    host = machine()
    apply(host, c.SetMaxHugePages(9, 64))
    assert states(figures(host, (), None)) == []
    apply(host, c.SetFault("vmemmap-restore"))
    apply(host, c.SetMaxHugePages(9, 0))
    assert states(figures(host, (), None)) == ["surplus-stuck", "fault-armed"]


def test_many_moments_are_taken_apart_as_one_is() -> None:
    host = machine()
    rows, single = [], []
    for count in (3, 70, 20):
        found = figures(host, apply(host, c.SetMaxHugePages(9, count)).events, None)
        rows.append(numbers_of(pack(found)))
        single.append(found)
    together = {(each.nid, each.order): each.values for each in series(rows)}
    assert together[None, 9]["nr_hugepages"] == [each.pools[0].nr for each in single]
    assert together[None, 9]["bytes_saved"] == [each.saved_pages << 12 for each in single]
    assert together[1, 9]["free_hugepages"] == [each.nodes[1].pools[0].free for each in single]
    assert together[1, 18]["total_bytes"] == [each.nodes[1].total_pages << 12 for each in single]
