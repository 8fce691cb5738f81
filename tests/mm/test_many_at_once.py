"""Huge pages that are made, restored and freed many at once leave the same machine as one after the other.

Compared are whole machines by their digest: counters, places, types, the order of free lists and the lists of CPUs.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import hugetlb, hugetlb_page, page_alloc
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.mmzone import NO_BLOCKS
from hugepool.mm.machine.state import Host
from tests.mm.hosts import GIB, KERNELS, MIB, ON, assert_laws, do, machine

MACHINES = ((GIB,), (2 * GIB,), (5 * GIB,), (2 * GIB, GIB), (768 * MIB, 768 * MIB))
SIZES = st.one_of(st.just(0), st.integers(0, 2600), st.just(100_000))
STEPS = st.lists(
    st.one_of(
        SIZES.map(lambda count: c.SetMaxHugePages(9, count)),
        st.tuples(SIZES, st.integers(0, 1)).map(lambda sized: c.SetMaxHugePages(9, *sized)),
        st.tuples(st.sampled_from(("anon", "kernel")), st.integers(1, 60_000)).map(
            lambda grown: c.GrowTask(0, grown[0], grown[1], partial=True)
        ),
        st.tuples(st.sampled_from(("anon", "kernel")), st.integers(0, 256)).map(
            lambda left: c.ShrinkTask(0, *left)
        ),
    ),
    min_size=1,
    max_size=5,
)


def after(kernel: str, sizes: tuple[int, ...], cmdline: str, steps: list[Any]) -> Host:
    """A machine after some steps of a task and of writes; refused ones have their effect, too."""
    host = machine(*sizes, kernel=kernel, cmdline=cmdline)
    pid = do(host, c.StartTask())["pid"]
    for step in steps:
        if getattr(step, "nid", None) == 1 and len(sizes) == 1:
            continue
        apply(host, replace(step, pid=pid) if hasattr(step, "pid") else step)
    assert_laws(host)
    return host


@settings(max_examples=12, deadline=None)
@given(
    kernel=st.sampled_from(KERNELS),
    sizes=st.sampled_from(MACHINES),
    cmdline=st.sampled_from([ON, ON, ON + " kernelcore=400M", ON + " cma=64M", ""]),
    steps=STEPS,
)
@example("5.14", (2 * GIB,), ON, [c.SetMaxHugePages(9, 900), c.SetMaxHugePages(9, 0)])
@example("6.1", (5 * GIB,), ON, [c.SetMaxHugePages(9, 2560), c.SetMaxHugePages(9, 3)])
@example(
    "6.1", (GIB, 2 * GIB), ON, [c.SetMaxHugePages(9, 900), c.SetMaxHugePages(9, 0), c.SetMaxHugePages(9, 700)]
)
def test_many_at_once_equal_one_by_one(
    kernel: str, sizes: tuple[int, ...], cmdline: str, steps: list[Any]
) -> None:
    at_once = after(kernel, sizes, cmdline, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugetlb, "grow_together", lambda *_: NO_BLOCKS)
        patch.setattr(hugetlb_page, "release_together", lambda *_: 0)
        patch.setattr(hugetlb_page, "_hopeless", lambda *_: 0)
        patch.setattr(page_alloc, "_more_refills", lambda *_: 0)
        one_by_one = after(kernel, sizes, cmdline, steps)
    assert digest(at_once) == digest(one_by_one)


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
@pytest.mark.parametrize("sizes", [(4 * GIB,), (2 * GIB, 2 * GIB)])
def test_most_pages_are_made_and_given_back_at_once(
    kernel: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []

    def counted(name: str, module: Any) -> None:
        original = getattr(module, name)

        def call(*given: Any) -> Any:
            done = original(*given)
            at_once.append(int(done if isinstance(done, int) else done.size))
            return done

        monkeypatch.setattr(module, name, call)

    counted("grow_together", hugetlb)
    counted("release_together", hugetlb_page)
    host = machine(*sizes, kernel=kernel)
    do(host, c.SetMaxHugePages(9, 1200))
    do(host, c.SetMaxHugePages(9, 0))
    assert sum(at_once) > 2 * 1200 * 0.6
