"""The search for a contiguous range skips what cannot be taken, and finds what trying every candidate finds."""

import numpy as np
import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.kernel.contig import alloc_contig_pages, alloc_contig_range
from hugepool.mm.kernel.page_alloc import node_zonelist
from hugepool.mm.kernel.replace_hugepages import ContigProgress
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import Migrate, Use, Zone
from hugepool.mm.machine.state import Call, Host
from tests.mm.hosts import GIB, KERNELS, MIB, assert_laws, do, machine, resize


def tried_one_by_one(host: Host, pages: int) -> int | None:
    """pfn_range_valid_contig() page by page for every candidate, and an attempt for each that passes."""
    for zone in node_zonelist(host.nodes[0], 3):
        for start in range(-(-zone.start_pfn // pages) * pages, zone.end_pfn - pages + 1, pages):
            if _passes(host, zone, start, pages):
                try:
                    alloc_contig_range(host, Call(), start, start + pages, Migrate.MOVABLE, ContigProgress())
                    return start
                except MMError:
                    continue
    return None


def _passes(host: Host, zone: Zone, start: int, pages: int) -> bool:
    pfns = np.arange(start, start + pages)
    uses = host.mem.uses_of(pfns)
    wrong = [Use.RESERVED, Use.BOOT_VMEMMAP, Use.HOLE]
    if host.profile.contig_skips_hugepages:
        wrong.append(Use.HUGETLB)
    return bool((host.mem.zone[pfns // 512] == zone.index + 1).all() and not np.isin(uses, wrong).any())


@pytest.mark.parametrize("pages", [3000, 500, 96])
@pytest.mark.parametrize("pool", [40, 10_000])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_search_finds_what_trying_every_candidate_finds(kernel: str, pool: int, pages: int) -> None:
    host = machine(384 * MIB, kernel=kernel)
    do(host, c.SetMinFreeKbytes(1000))
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "anon", 3000))
    do(host, c.GrowTask(pid, "kernel", 500))
    do(host, c.ShrinkTask(pid, keep_of_256=40))
    resize(host, pool)
    other = fork(host)
    zones = node_zonelist(host.nodes[0], 3)
    found = alloc_contig_pages(host, Call(), zones, pages, ContigProgress())
    assert found == tried_one_by_one(other, pages)
    assert digest(host) == digest(other)


def test_small_ranges_of_a_host_full_of_huge_pages_are_found_at_once() -> None:
    """Of 1.4 million candidates nearly all lie in free huge pages for which there is no replacement."""
    host = machine(16 * GIB)
    resize(host, 100_000)
    found = do(host, c.AllocContigPages(3))
    assert found["nr_pages"] == 3
    assert_laws(host)
