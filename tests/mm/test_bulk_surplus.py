"""Surplus pages taken many at once are as many, from the same zones, as those of a page-by-page loop.

Which block of a zone a page or its page table lies in may differ.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import hugetlb_page
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import Use, Zone
from hugepool.mm.machine.state import Host
from tests.mm.hosts import KERNELS, MIB, ON, assert_laws, do, machine, row

one_source = hugetlb_page.huge_source


def one_at_a_time(host: Host, nid: int, nr_nodes: int, _wanted: int) -> tuple[Zone, int] | None:
    """The source of one page, never of more."""
    source = one_source(host, nid, nr_nodes, 1)
    return None if source is None else (source[0], 1)


def reserved(
    kernel: str, sizes: tuple[int, ...], cmdline: str, fill: int, limit: int, asked: int
) -> tuple[Any, ...]:
    """What a mapping of ``asked`` pages makes of a machine with an empty pool."""
    host = machine(*(size * MIB for size in sizes), kernel=kernel, cmdline=cmdline)
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", pages=fill, partial=True))
    do(host, c.SetOvercommit(9, limit))
    try:
        outcome = apply(host, c.MapHugePages(pid, 9, asked))
        answer: Any = outcome.result if outcome.error is None else outcome.error.errno
    except MMError as error:
        answer = error.errno
    assert_laws(host)
    zones = [(zone.name, zone.nr_free, zone.nr_cached, zone.managed) for zone in host.zones]
    where = np.bincount(host.mem.zone[host.mem.use == Use.HUGETLB]).tolist()
    return answer, row(host), list(host.hstates[9].surplus_node), zones, where, host.counters


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from(KERNELS),
    sizes=st.sampled_from([(768,), (512, 512)]),
    cmdline=st.sampled_from([ON, "", ON + " kernelcore=300M"]),
    fill=st.integers(0, 150_000),
    limit=st.integers(0, 400),
    asked=st.integers(1, 400),
)
def test_many_at_once_equal_one_by_one(
    kernel: str, sizes: tuple[int, ...], cmdline: str, fill: int, limit: int, asked: int
) -> None:
    at_once = reserved(kernel, sizes, cmdline, fill, limit, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugetlb_page, "huge_source", one_at_a_time)
        assert reserved(kernel, sizes, cmdline, fill, limit, asked) == at_once
