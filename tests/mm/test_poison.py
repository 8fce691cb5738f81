"""Poisoned pages, held against the recorded kernel's table."""

import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import BlockFlag, Use
from hugepool.mm.machine.state import Host
from tests.mm.hosts import (
    GIB,
    KERNELS,
    assert_laws,
    do,
    fail_restores,
    free_pages,
    let_restores_pass,
    machine,
    resize,
    row,
)

GIVEN_BACK = {"5.14": 505, "6.1": 504, "6.12": 504, "6.18": 504}  # 512 - 6 (7) - the bad page


def pool(kernel: str = "5.14", pages: int = 30) -> Host:
    host = machine(2 * GIB, kernel=kernel)
    resize(host, pages)
    return host


def free_head(host: Host, which: int = 0) -> int:
    """First page of a free huge page."""
    return int(host.hstates[9].free_lists[0].items()[which]) * 512


def poison(host: Host, pfn: int, mode: str) -> str:
    return str(do(host, c.PoisonPage(pfn, mode))["action"])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_free_huge_page_is_dissolved_and_one_page_stays_out(kernel: str, mode: str) -> None:
    host = pool(kernel)
    pfn, free = free_head(host), free_pages(host)
    assert poison(host, pfn, mode) == "dissolved"
    assert row(host) == (29, 29, 0, 0, 29)
    assert free_pages(host) - free == GIVEN_BACK[kernel]
    assert host.mem.page_use(pfn) == Use.POISON
    assert host.poisoned_pages == 1
    assert_laws(host)
    assert poison(host, pfn, mode) == "ignored"
    assert host.poisoned_pages == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_bad_tail_page_is_ignored_by_5_14_only(kernel: str) -> None:
    host = pool(kernel)
    tail = free_head(host) + 5
    before = digest(host)
    action = poison(host, tail, "hard")
    assert action == ("ignored" if kernel == "5.14" else "dissolved")
    assert row(host)[0] == (30 if kernel == "5.14" else 29)
    assert (digest(host) == before) == (kernel == "5.14")
    assert poison(host, free_head(host, 5) + 3, "soft") == "dissolved"
    assert_laws(host)


def test_5_14_takes_a_failed_dissolve_for_success() -> None:
    host = pool()
    fail_restores(host)
    assert poison(host, free_head(host), "hard") == "kept"
    assert poison(host, free_head(host, 5) + 3, "soft") == "kept"
    assert row(host) == (30, 30, 0, 0, 30)
    assert host.poisoned_pages == 2
    assert_laws(host)
    let_restores_pass(host)
    free = free_pages(host)
    resize(host, 0)
    assert row(host) == (0, 0, 0, 0, 0)
    assert free_pages(host) - free == 29 * 506 - 6  # the whole 2 MiB of the soft one are lost
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_later_kernels_refuse_and_change_nothing(kernel: str) -> None:
    host = pool(kernel)
    fail_restores(host)
    for mode in ("hard", "soft"):
        before = row(host), free_pages(host), host.poisoned_pages
        with pytest.raises(MMError) as refused:
            apply(host, c.PoisonPage(free_head(host), mode))
        assert (refused.value.errno, refused.value.reason) == ("EBUSY", "injected-fault")
        assert (row(host), free_pages(host), host.poisoned_pages) == before
        assert_laws(host)


def test_a_spoilt_page_in_use_moves_away_and_is_lost() -> None:
    # p_hwpoison step 26: EBUSY, nr and free -1, eff -6.
    host = pool()
    fail_restores(host)
    spoilt = free_head(host, -1) + 3
    assert poison(host, spoilt, "soft") == "kept"
    pid = do(host, c.CreateTask("hugetlb", count=1, touch=1))["pid"]
    assert host.tasks[pid].maps[0].pages[0] == spoilt // 512
    let_restores_pass(host)
    free = free_pages(host)
    refused = apply(host, c.PoisonPage(spoilt + 4, "soft"))
    assert refused.error is not None
    assert (refused.error.errno, refused.error.reason) == ("EBUSY", "poison-lost")
    assert row(host) == (29, 28, 0, 0, 29)
    assert free_pages(host) - free == -6
    assert host.mem.use[spoilt // 512] == Use.LOST
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_used_huge_page_moves_when_soft_and_is_cut_off_when_hard(kernel: str) -> None:
    host = pool(kernel)
    pid = do(host, c.CreateTask("hugetlb", count=4, touch=4))["pid"]
    pages = host.tasks[pid].maps[0].pages
    old = pages[0]
    assert poison(host, old * 512 + 7, "soft") == "dissolved"
    assert pages[0] != old
    assert row(host) == (29, 25, 0, 0, 29)
    assert_laws(host)
    assert poison(host, pages[3] * 512 + 7, "hard") == "dissolved"
    assert row(host) == (28, 25, 0, 0, 28)
    touched = do(host, c.TouchHugePages(pid, 0, 1, 3))
    assert (touched["touched"], touched["signal"]) == (0, "SIGBUS")
    assert_laws(host)
    do(host, c.ExitTask(pid))
    assert row(host) == (28, 28, 0, 0, 28)
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_later_kernels_keep_what_a_refused_page_in_use_went_through(kernel: str, mode: str) -> None:
    """docs/kernel-rules.md 5.7: migrate or unmap, then dissolve; the failure does not undo the first."""
    host = pool(kernel, 5)
    pid = do(host, c.CreateTask("hugetlb", count=1, touch=1))["pid"]
    old = host.tasks[pid].maps[0].pages[0]
    fail_restores(host)
    refused = apply(host, c.PoisonPage(old * 512 + 3, mode))
    assert refused.error is not None
    assert (refused.error.errno, refused.error.reason) == ("EBUSY", "injected-fault")
    assert refused.result.action == ("migrated" if mode == "soft" else "unmapped")
    assert host.poisoned_pages == (mode == "hard")
    assert host.tasks[pid].maps[0].pages.get(0) != old
    assert bool(host.tasks[pid].maps[0].pages) == (mode == "soft")
    assert row(host)[:2] == (5, 4 if mode == "soft" else 5)
    assert_laws(host)
    lines = [data["line"] for event, data in refused.events if event == "KernelMessagePrinted"]
    assert any(line.endswith("recovery action for huge page: Failed") for line in lines) == (mode == "hard")
    assert host.hstates[9].free_lists[0].items()[0] == old or mode == "soft"


def test_single_pages_free_movable_and_of_the_kernel() -> None:
    host = machine(1 * GIB)
    pid = do(host, c.CreateTask("anon", pages=10))["pid"]
    first = host.tasks[pid].runs[0][0]
    assert poison(host, first, "soft") == "migrated"
    assert sum(n for _, n in host.tasks[pid].runs) == 10
    second = host.tasks[pid].runs[0][0]
    assert poison(host, second, "hard") == "unmapped"
    assert sum(n for _, n in host.tasks[pid].runs) == 9
    assert poison(host, 100_000, "hard") == "taken"
    assert host.poisoned_pages == 3
    assert_laws(host)
    kernel = do(host, c.CreateTask("kernel", pages=10))["pid"]
    before = digest(host)
    for pfn, errno in (
        (host.tasks[kernel].runs[0][0], "EBUSY"),
        (1 << 35, "ENXIO"),
        (-5, "ENXIO"),
        (0, "ENXIO"),
    ):
        with pytest.raises(MMError) as refused:
            apply(host, c.PoisonPage(pfn, "hard"))
        assert refused.value.errno == errno
    assert digest(host) == before


def test_gigantic_pages_in_use_are_left_alone() -> None:
    host = machine(4 * GIB)
    resize(host, 1, order=18)
    pid = do(host, c.CreateTask("hugetlb", order=18, count=1, touch=1))["pid"]
    head = host.tasks[pid].maps[0].pages[0]
    with pytest.raises(MMError, match="larger than 2 MiB"):
        apply(host, c.PoisonPage(head * 512 + 5000, "hard"))
    assert host.mem.flags[head] & BlockFlag.HEAD
    assert_laws(host)
