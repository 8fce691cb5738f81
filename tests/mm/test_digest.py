"""Two hosts have the same digest only if every field of their state is equal."""

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import pytest

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.cgroups import PageCharge
from hugepool.mm.machine.digest import DERIVED, digest, fork, stated_fields
from hugepool.mm.machine.mmzone import MemoryMap, Use
from hugepool.mm.machine.state import Call, FreeList, Host

G = 1 << 30
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def full() -> Host:
    """A host on which every kind of state is present."""
    spec = HostSpec(
        (NodeSpec(3 * G), NodeSpec(2 * G)),
        cmdline="hugetlb_free_vmemmap=on cma=64M hugepagesz=1G hugepages=1",
    )
    host = boot(spec, Call())
    for command in (
        c.SetMaxHugePages(9, 40),
        c.CreateTask("hugetlb", count=6, touch=4),
        c.CreateTask("anon", pages=700),
        c.FallocateFile("/dev/hugepages/a", 2),
        c.MakeCgroup("pods/a", parents=True),
        c.CreateTask("hugetlb", count=2, touch=1, cgroup="pods/a"),
        c.AllocContigPages(512),
        c.SetFault("hugepage-alloc", times=3),
        c.SetDeferredMode("manual"),
        c.SetMaxHugePages(9, 1),
    ):
        apply(host, command)
    task = next(task for task in host.tasks.values() if task.maps)
    mapping = task.maps[0]
    mapping.gone, mapping.poisoned = {9}, {8}
    task.policy_nodes = [1]
    host.carried = {"meminfo": {"Slab": 17}}
    return host


def places(value: Any, where: Place = ()) -> Iterator[Place]:
    """Every place in a host where a value is kept: fields, keys of maps, one item of each list."""
    if isinstance(value, MemoryMap) or (is_dataclass(value) and not isinstance(value, (type, PageCharge))):
        for name in stated_fields(value):
            yield from places(getattr(value, name), (*where, name))
    elif isinstance(value, dict) and value:
        yield where  # one entry fewer
        for key in list(value)[:2]:
            yield from places(value[key], (*where, key))
    elif isinstance(value, list) and value:
        yield where
        yield from places(value[-1], (*where, len(value) - 1))
    else:
        yield where


def _other_array(value: Any) -> Any:
    other = value.copy()
    other.flat[-1] = change(other.flat[-1])
    return other


CHANGES: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((bool, np.bool_), lambda value: not value),
    ((Enum,), lambda value: next(other for other in type(value) if other != value)),
    ((int, np.integer), lambda value: value ^ 1),
    ((str,), lambda value: f"{value}x"),
    ((type(None),), lambda _: 1),
    ((np.ndarray,), _other_array),
    ((FreeList,), lambda value: FreeList(value.items()[:-1] if value.size else np.array([1]))),
    ((set,), lambda value: value ^ {77}),
    ((PageCharge,), lambda value: replace(value, pages=value.pages + 1)),
    ((tuple,), lambda value: (*value[:-1], change(value[-1]))),
    ((dict,), lambda value: dict(list(value.items())[1:]) if value else {7: 7}),
    ((list,), lambda value: value[:-1] if value else [7]),
)


def change(value: Any) -> Any:
    """Another value of the same kind."""
    return next(other(value) for kinds, other in CHANGES if isinstance(value, kinds))


def has_items(value: Any) -> bool:
    return isinstance(value, (dict, list))


def changed_at(host: Host, where: Place) -> Host:
    other = fork(host)
    holder: Any = other
    for part in where[:-1]:
        holder = operator.getitem(holder, part) if has_items(holder) else getattr(holder, str(part))
    last = where[-1]
    if has_items(holder):
        holder[last] = change(holder[last])
    else:
        setattr(holder, str(last), change(getattr(holder, str(last))))
    return other


def test_every_field_changes_the_digest(full: Host) -> None:
    before = digest(full)
    seen = set()
    for where in places(full):
        assert digest(changed_at(full, where)) != before, where
        seen.add(where[0])
    assert seen == set(stated_fields(full))
    assert digest(full) == before


def test_page_uses_page_tables_and_the_order_of_free_pages_change_the_digest(full: Host) -> None:
    before = digest(full)
    mixed = int(np.flatnonzero(full.mem.use == Use.MIXED)[0])
    other = fork(full)
    other.mem.detail[other.mem.slot[mixed], 3] ^= 1
    assert digest(other) != before
    other = fork(full)
    split = int(np.flatnonzero(other.mem.pte_slot > 0)[0])
    other.mem.pte[other.mem.pte_slot[split], 9] ^= 1 << 12
    assert digest(other) != before
    other = fork(full)
    stamped = np.flatnonzero((other.mem.order.stamp != 0) & (other.mem.use == Use.BUDDY))
    other.mem.order.stamp[stamped[0]] *= -1
    assert digest(other) != before


def test_what_is_left_out_exists_and_a_copy_is_equal(full: Host) -> None:
    for kind, names in DERIVED.items():
        if kind is MemoryMap:
            assert names <= set(vars(full.mem))
        else:
            assert names <= {field.name for field in fields(kind)}
    assert digest(copy.deepcopy(full)) == digest(full)
