"""A host that is loaded is the machine that was saved."""

import random
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.cgroups import Cgroup, HugetlbCgroup, PageCharge
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.fault_inject import FaultAttr, FaultPoint
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile, Mount
from hugepool.mm.machine.mmzone import Node, Zone
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Call, CmaArea, Host, HState, QueuedFree, Task
from hugepool.mm.machine.units import ULONG_MAX
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.hosts import Change, HostStore, Loaded
from hugepool.store.rows import MORE_STATE, snapshot

G = 1 << 30
ON = "hugetlb_free_vmemmap=on"
KERNELS = tuple(PROFILES)


def machine(kernel: str = "5.14", cmdline: str = ON) -> Host:
    return boot(HostSpec((NodeSpec(6 * G), NodeSpec(2 * G)), kernel=kernel, cmdline=cmdline, seed=3), Call())


def reloaded(store: HostStore, name: str = "lab") -> Loaded:
    loaded = store.load(name)
    assert loaded is not None
    return loaded


def random_command(rng: random.Random, host: Host) -> c.Command[Any]:
    pid = rng.choice([*host.tasks, 1])
    path, group = (
        rng.choice(("/dev/hugepages/a", "/dev/hugepages/b", "/mnt/h/f")),
        rng.choice(("a", "a/b", "c")),
    )
    maps = [*host.tasks[pid].maps, 0] if pid in host.tasks else [0]
    makers = (
        lambda: c.SetMaxHugePages(9, rng.choice((0, 3, 100, 700, 2500))),
        lambda: c.SetMaxHugePages(9, rng.randrange(400), nid=rng.randrange(2)),
        lambda: c.SetMaxHugePages(18, rng.randrange(3)),
        lambda: c.SetOvercommit(9, rng.choice((0, 20, ULONG_MAX))),
        lambda: c.CreateTask("hugetlb", count=rng.randrange(1, 40), touch=rng.randrange(1)),
        lambda: c.CreateTask("anon", pages=rng.randrange(1, 90_000)),
        lambda: c.CreateTask("kernel", pages=rng.randrange(1, 5_000), node=rng.randrange(2)),
        lambda: c.MapHugePages(pid, 9, rng.randrange(1, 30), shared=rng.random() < 0.5, touch=1),
        lambda: c.TouchHugePages(pid, rng.choice(maps), rng.randrange(8)),
        lambda: c.UnmapHugePages(pid, rng.choice(maps), rng.randrange(4), rng.randrange(1, 9)),
        lambda: c.ShrinkTask(pid, keep_of_256=rng.choice((1, 200))),
        lambda: c.ShrinkTask(pid, pages=rng.randrange(3000)),
        lambda: c.FallocateFile(path, rng.randrange(1, 20)),
        lambda: c.UnlinkFile(path),
        lambda: c.PunchFile(path, rng.randrange(1, 9), rng.randrange(9)),
        lambda: c.TruncateFile(path, rng.randrange(20)),
        lambda: c.MountHugetlbfs("/mnt/h", 9, rng.choice((None, 20)), rng.choice((None, 0, 5))),
        lambda: c.Umount("/mnt/h"),
        lambda: c.CreateTask(
            "hugetlb",
            order=None,
            count=rng.randrange(1, 9),
            touch=1,
            cgroup=group,
            file=path,
            shared=rng.random() < 0.5,
            offset=rng.randrange(3),
        ),
        lambda: c.AddVirtioMem("vm0", 1, 131072, 512, 512 * rng.randrange(200), there_pages=0),
        lambda: c.RequestVirtioMem("vm0", 512 * rng.randrange(257)),
        lambda: c.RemoveVirtioMem("vm0"),
        lambda: c.ForkTask(pid),
        lambda: c.MakeCgroup(group, parents=True),
        lambda: c.RemoveCgroup(group),
        lambda: c.SetCgroupLimit(group, 9, rng.choice(("pages", "reservations")), rng.choice((None, 3, 9))),
        lambda: c.MoveTask(pid, group),
        lambda: c.ExitTask(pid),
        lambda: c.SetFault(
            rng.choice(list(FaultPoint)), probability=rng.choice((30, 100)), times=rng.randrange(-1, 3)
        ),
        lambda: c.ClearFault(rng.choice(list(FaultPoint))),
        lambda: c.SetDeferredMode(rng.choice(("auto", "manual"))),
        lambda: c.SetMinFreeKbytes(rng.choice((20_000, 90_000))),
        c.RunFreeHpageWork,
    )
    return rng.choice(makers)()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_reloaded_host_has_the_same_digest_after_every_command(
    store: HostStore, kernel: str, seed: int
) -> None:
    rng = random.Random(f"{kernel} {seed}")
    loaded = store.create("lab", machine(kernel), Change(0))
    done = 0
    for step in range(40):
        command = random_command(rng, loaded.host)
        before = fork(loaded.host)
        try:
            outcome = apply(loaded.host, command, step)
        except MMError:
            loaded.host = before
            continue
        store.save(loaded, Change(step, outcome.events))
        done += 1
        fresh = reloaded(store)
        assert digest(fresh.host) == digest(loaded.host), command
        assert (fresh.revision, fresh.last_event_id) == (loaded.revision, loaded.last_event_id)
        if step % 3 == 0:
            loaded = fresh  # and goes on as the one that never left memory would
    assert done > 10


def test_a_reloaded_host_goes_on_like_the_one_that_stayed_in_memory(store: HostStore) -> None:
    store.create("lab", machine(), Change(0))
    stays = reloaded(store).host
    rng = random.Random(7)
    for step in range(60):
        command = random_command(rng, stays)
        before = fork(stays)
        try:
            apply(stays, command, step)
        except MMError:
            stays = before
            continue
        loaded = reloaded(store)
        apply(loaded.host, command, step)
        store.save(loaded, Change(step))
        assert digest(reloaded(store).host) == digest(stays), command


def test_the_dirty_marks_cover_every_section_that_changed(store: HostStore) -> None:
    loaded = store.create("lab", machine(), Change(0))
    assert not loaded.host.mem.dirty.any()
    apply(loaded.host, c.SetMaxHugePages(9, 64))
    assert 0 < int(loaded.host.mem.dirty.sum()) < loaded.host.mem.nr_sections // 2
    store.save(loaded, Change(0))
    assert not loaded.host.mem.dirty.any()


def test_fields_that_the_digest_leaves_out_come_back_too(store: HostStore) -> None:
    host = machine()
    host.carried = {"meminfo": {"Slab": 17}, "order": ["b", "a"], "text": "Größe\n"}
    host.counters = {"pgfault": ULONG_MAX, "allocstall_normal": 0}
    host.thp, host.movable_node, host.memmap_on_memory = False, True, True
    host.last_splat_ns = 1_700_000_000_000_000_000
    store.create("lab", host, Change(0))
    fresh = reloaded(store).host
    for field in fields(Host):
        if field.name not in ("mem", "hstates"):
            assert getattr(fresh, field.name) == getattr(host, field.name), field.name
    assert list(fresh.counters) == list(host.counters)
    assert list(fresh.hstates) == list(host.hstates)


@pytest.mark.parametrize(
    ("kind", "table", "elsewhere"),
    [
        (Zone, t.zones, {"index", "nid", "nr_free_cma", "nr_isolated"}),  # recounted, and of a moment
        (Node, t.nodes, {"nid", "zones"}),
        (HState, t.hstates, {"order", "nr_nodes", "nr_node", "free_node", "surplus_node", "free_lists"}),
        (Task, t.tasks, {"maps"}),
        (HugeMap, t.huge_maps, {"order"}),
        (HugetlbFile, t.hugetlbfs_files, {"order", "resv"}),
        (Mount, t.hugetlbfs_mounts, {"order"}),
        (Cgroup, t.cgroups, set()),
        (HugetlbCgroup, t.hugetlb_cgroups, {"pages", "reservations", "events", "events_local"}),
        (PageCharge, t.page_charges, set()),
        (QueuedFree, t.deferred_frees, {"block", "order"}),
        (FaultAttr, t.faults, set()),
        (CmaArea, t.cma_areas, set()),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "name", ""),
)
def test_every_field_of_the_engine_has_its_column(kind: Any, table: Any, elsewhere: set[str]) -> None:
    assert {f.name for f in fields(kind)} - elsewhere - set(table.c.keys()) == set()


def test_every_field_of_a_host_has_a_column_of_its_own() -> None:
    assert MORE_STATE == ()


def test_a_change_writes_only_the_rows_that_changed(store: HostStore, database: Database) -> None:
    loaded = store.create("lab", machine(), Change(0))
    before = snapshot(fork(loaded.host))
    apply(loaded.host, c.SetMaxHugePages(9, 4))
    after = snapshot(loaded.host)
    changed = {name for name, rows in after.items() if rows != before[name]}
    assert "carried" not in changed
    assert "tasks" not in changed
    store.save(loaded, Change(0))
    with database.reading() as connection:
        rows = connection.execute(select(t.sections.c.mapping, t.sections.c.optimized_hugepages)).all()
    assert sum(row.optimized_hugepages for row in rows) == 4
    assert sum(row.mapping == "pte" for row in rows) in (1, 2)


def test_a_change_that_leaves_no_trace_keeps_the_revision(store: HostStore) -> None:
    loaded = store.create("lab", machine(), Change(0))
    store.save(loaded, Change(0))
    assert loaded.revision == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_gigantic_pages_and_offline_sections_come_back(store: HostStore, kernel: str) -> None:
    host = machine(kernel, f"{ON} hugepagesz=1G hugepages=2")
    mem = host.mem
    free = np.flatnonzero((mem.use.reshape(-1, 64) == 1).all(axis=1))[-1]
    mem.section_state[free] = 2
    mem.mark_dirty(np.array([free * 64]))
    store.create("lab", host, Change(0))
    fresh = reloaded(store).host
    assert digest(fresh) == digest(host)
    assert [lst.items().tolist() for lst in fresh.hstates[18].free_lists] == [
        lst.items().tolist() for lst in host.hstates[18].free_lists
    ]
