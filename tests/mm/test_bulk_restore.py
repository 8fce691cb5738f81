"""The closed form of bulk restores equals the page-by-page reference."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hugepool.mm.commands import commands as c
from hugepool.mm.kernel.hugetlb import _remove_pool_pages
from hugepool.mm.kernel.hugetlb_page import ResizeResult, release
from hugepool.mm.machine.mmzone import BlockFlag
from hugepool.mm.machine.state import Call, Host
from tests.mm.hosts import KERNELS, MIB, do, machine, resize
from tests.mm.reference import ReferenceZone, restore_and_free


def _reference_zones(host: Host) -> dict[str, ReferenceZone]:
    return {
        z.name: ReferenceZone(z.nr_free - z.nr_cached, z.min, z.low, z.lowmem_reserve[2], z.type != 3)
        for z in host.nodes[0].zones
        if z.present
    }


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from(KERNELS),
    movable=st.sampled_from(["", " kernelcore=300M", " kernelcore=512M"]),
    margin=st.integers(0, 60),
    plain=st.integers(0, 5),
    count=st.integers(1, 250),
)
@example(kernel="6.1", movable="", margin=48, plain=0, count=1)  # two zones pay for one page
def test_pages_refused_and_free_memory_equal_the_reference(
    kernel: str, movable: str, margin: int, plain: int, count: int
) -> None:
    host = machine(768 * MIB, kernel=kernel, cmdline="hugetlb_free_vmemmap=on" + movable)
    hs = host.hstates[9]
    if plain and kernel != "5.14":
        do(host, c.SetOptimizeVmemmap(False))
        resize(host, plain)
        do(host, c.SetOptimizeVmemmap(True))
    resize(host, 200)
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=margin, partial=True))
    heads = _remove_pool_pages(host, hs, min(count, hs.nr_huge_pages), [0])[::-1]
    optimised = (host.mem.flags[heads] & BlockFlag.OPTIMIZED) != 0
    names: list[str] = [host.zones[int(z) - 1].name for z in host.mem.zone[heads]]
    zones = _reference_zones(host)
    order: list[str] = [z.name for z in reversed(host.nodes[0].zones[:3]) if z.present]
    pages = list(zip(names, optimised.tolist(), strict=True))
    bulk = host.profile.bulk
    went, free = restore_and_free(zones, order, pages, hs.nr_free_vmemmap_pages, bulk=bulk)
    refused = release(host, Call(), hs, heads, ResizeResult(0), batched=bulk)
    assert np.isin(heads, refused).tolist() == [not w for w in went]
    assert {z.name: z.nr_free - z.nr_cached for z in host.nodes[0].zones if z.present} == free
