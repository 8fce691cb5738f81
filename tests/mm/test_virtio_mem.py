"""Unplugging parts of a memory block: sub-blocks, tries, and the growth that failing restores cause."""

from typing import Any

import pytest

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Call, Host
from tests.mm.hosts import (
    GIB,
    KERNELS,
    ON,
    assert_laws,
    do,
    fail_restores,
    free_pages,
    machine,
    resize,
    row,
    total_pages,
)

BLOCK = 32


def plugged(kernel: str = "5.14", pool: int = 0) -> Host:
    """2 GiB, and three blocks more as ZONE_MOVABLE with a pool in them."""
    words = f"{ON} memhp_default_state=online_movable"
    host = machine(2 * GIB, kernel=kernel, cmdline=words)
    do(host, c.AddMemory(0, 3 * 32768))
    resize(host, pool)
    return host


@pytest.mark.parametrize("kernel", KERNELS)
def test_huge_pages_of_the_part_are_replaced_and_the_pool_keeps_its_size(kernel: str) -> None:
    host = plugged(kernel, 61)
    total, free = total_pages(host), free_pages(host)
    answer = do(host, c.UnplugMemory(BLOCK, 4096))
    assert answer["sub_block_pages"] == (1024 if kernel == "5.14" else 512)
    assert answer["unplugged_pages"] == 4096
    assert answer["replaced_hugepages"] == 5  # 64 - 61 places of the block were free
    assert row(host) == (61, 61, 0, 0, 61)
    assert total - total_pages(host) == 4096
    lost = 5 * 6 if kernel == "5.14" else 0  # first optimisation of the replacements, in hot-added memory
    assert free - free_pages(host) == 4096 + 1 + lost  # a page table for the next section
    assert_laws(host)


def test_all_of_a_block_can_be_unplugged_and_the_block_then_goes() -> None:
    host = plugged(pool=20)
    marks = [(zone.min, zone.low, zone.high) for zone in host.zones]
    do(host, c.UnplugMemory(BLOCK, 32768))
    assert [(zone.min, zone.low, zone.high) for zone in host.zones] == marks  # only managed pages change
    with pytest.raises(MMError, match="only 0 pages"):
        apply(host, c.UnplugMemory(BLOCK, 1024))
    assert_laws(host)
    do(host, c.SetBlockState(BLOCK, "offline"))
    do(host, c.RemoveMemory(BLOCK))
    assert row(host)[0] == 20
    assert_laws(host)


def test_runaway_growth_five_surplus_pages_for_each_huge_page_that_cannot_be_restored() -> None:
    # A node that has only ZONE_MOVABLE: 61 -> 182 pages until no 2 MiB page was left.
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "6.1", f"{ON} memhp_default_state=online_movable")
    host = boot(spec, Call())
    do(host, c.AddMemory(1, 3 * 32768))
    resize(host, 61, nid=1)
    fail_restores(host)
    refused = apply(host, c.UnplugMemory(BLOCK, 4096))
    assert refused.error is not None
    assert refused.error.errno == "ENOMEM"
    assert refused.result.unplugged_pages < 4096
    nr, free, resv, surplus, most = row(host)
    assert (free, resv, most) == (nr, 0, 61)
    assert surplus == nr - 61 > 100
    assert_laws(host)


def test_kernel_memory_in_the_way_is_passed_over_and_reported() -> None:
    host = machine(2 * GIB)
    block = next(n for n in range(1, 16) if host.mem.nfree[n * 64 : n * 64 + 64].sum() not in (0, 32768))
    refused = apply(host, c.UnplugMemory(block, 32768))
    assert refused.error is not None
    assert refused.error.errno == "EBUSY"
    assert refused.result.busy_sub_blocks > 0
    assert_laws(host)


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.UnplugMemory(99, 1024), "ENOENT"),
        (c.UnplugMemory(BLOCK, 0), "EINVAL"),
        (c.UnplugMemory(BLOCK, 512), "EINVAL"),
        (c.UnplugMemory(BLOCK, 65536), "EINVAL"),
    ],
    ids=repr,
)
def test_what_cannot_be_unplugged_is_refused_and_nothing_changes(command: c.Command[Any], errno: str) -> None:
    host = plugged()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, command)
    assert refused.value.errno == errno
    assert digest(host) == before
