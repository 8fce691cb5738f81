"""Random command sequences against the laws: a state machine over everything a host can be asked."""

from dataclasses import asdict
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import BlockFlag
from hugepool.mm.machine.state import Host
from hugepool.mm.views.check import check
from tests.mm.hosts import KERNELS, MIB, free_pages, machine, row, total_pages

COUNTS = st.one_of(st.integers(0, 40), st.integers(0, 400), st.just(2**64 - 1))
FILES = st.sampled_from(["/dev/hugepages/a", "/mnt/h/a", "/mnt/h/b"])
GROUPS = st.sampled_from(["", "a", "a/b", "a/c", "d"])
LAYOUTS = {
    "one node": ((768 * MIB,), ""),
    "two nodes": ((512 * MIB, 384 * MIB), ""),
    "movable": ((896 * MIB,), " kernelcore=400M"),
    "gigantic": ((3072 * MIB,), " hugepagesz=1G hugepages=1"),
    "area": ((768 * MIB,), " cma=64M"),
}


class RandomCommands(RuleBasedStateMachine):
    """Applies commands; every refusal leaves the host as it was unless its result says what is kept."""

    host: Host
    now = 0

    @initialize(
        kernel=st.sampled_from(KERNELS),
        layout=st.sampled_from(sorted(LAYOUTS)),
        feature=st.sampled_from(["on", "on", "off"]),
        seed=st.integers(0, 9),
        swap=st.sampled_from([0, 0, 16 * MIB]),
        oom=st.sampled_from(["refuse", "kill"]),
    )
    def boot(self, kernel: str, layout: str, feature: str, seed: int, swap: int, oom: str) -> None:
        nodes, words = LAYOUTS[layout]
        self.host = machine(
            *nodes,
            kernel=kernel,
            cmdline=f"hugetlb_free_vmemmap={feature}{words}",
            seed=seed,
            swap_bytes=swap,
            oom=oom,
        )

    def apply(self, command: c.Command[Any]) -> dict[str, Any] | None:
        self.now += 1_000_000_000
        trial = fork(self.host)
        try:
            outcome = apply(trial, command, self.now)
        except MMError:
            return None  # the service throws such a host away
        self.host = trial
        answer: dict[str, Any] = asdict(outcome.result)
        return answer

    # -- pools -------------------------------------------------------------------------------------------

    @rule(count=COUNTS, node=st.sampled_from([None, None, 0, 1]), order=st.sampled_from([9, 9, 9, 18]))
    def resize(self, count: int, node: int | None, order: int) -> None:
        nr, _free, _resv, surplus, _max = row(self.host, order)
        result = self.apply(c.SetMaxHugePages(order, count if order == 9 else count % 4, node))
        if result is None or self.host.deferred:
            return
        hs = self.host.hstates[order]
        assert hs.max_huge_pages == (hs.nr_huge_pages - hs.surplus_huge_pages) % 2**64
        if not result["converted_surplus"]:
            assert hs.surplus_huge_pages >= surplus or result["freed"] or nr != hs.nr_huge_pages

    @rule(count=st.integers(0, 30))
    def overcommit(self, count: int) -> None:
        self.apply(c.SetOvercommit(9, count))

    @rule(count=st.integers(0, 3))
    def demote(self, count: int) -> None:
        self.apply(c.Demote(18, count))

    @rule(enabled=st.booleans())
    def switch(self, enabled: bool) -> None:
        self.apply(c.SetOptimizeVmemmap(enabled))

    # -- tasks -------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 60), touch=st.integers(0, 60), noreserve=st.booleans(), shared=st.booleans(),
          mode=st.sampled_from(["default", "bind", "interleave", "preferred"]))  # fmt: skip
    def map_huge(self, count: int, touch: int, noreserve: bool, shared: bool, mode: str) -> None:
        nodes = () if mode == "default" else (0,)
        self.apply(
            c.CreateTask("hugetlb", count=count, touch=min(touch, count), noreserve=noreserve, shared=shared,
                         policy_mode=mode, policy_nodes=nodes)
        )  # fmt: skip

    @rule(kind=st.sampled_from(["anon", "kernel"]), pages=st.integers(1, 40_000))
    def use_memory(self, kind: str, pages: int) -> None:
        self.apply(c.CreateTask(kind, pages=pages))

    @rule(pages=st.integers(1, 300_000), clean=st.sampled_from([True, True, False]),
          node=st.sampled_from([None, None, 0, 1]))  # fmt: skip
    def fill_cache(self, pages: int, clean: bool, node: int | None) -> None:
        self.apply(c.CreateTask("cache", pages=pages, clean=clean, node=node))

    @rule(pages=st.integers(1, 20_000))
    def use_pinned_memory(self, pages: int) -> None:
        self.apply(c.CreateTask("anon", pages=pages, pinned=True))

    @rule(node=st.sampled_from([None, 0, 1]))
    def compact(self, node: int | None) -> None:
        self.apply(c.CompactMemory(node))

    @rule(mode=st.integers(1, 4))
    def drop_caches(self, mode: int) -> None:
        self.apply(c.DropCaches(mode))

    @rule(kind=st.sampled_from(["anon", "kernel"]), at_most=st.integers(0, 40))
    def press(self, kind: str, at_most: int) -> None:
        result = self.apply(c.StartTask(kind))
        if result is not None:
            self.apply(c.GrowTask(result["pid"], kind, at_most=at_most, partial=True))

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data(), count=st.integers(0, 40))
    def touch(self, data: st.DataObject, count: int) -> None:
        pid = data.draw(st.sampled_from(sorted(self.host.tasks)))
        self.apply(c.TouchHugePages(pid, 0, count))

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data(), first=st.integers(0, 20), count=st.integers(1, 20))
    def unmap(self, data: st.DataObject, first: int, count: int) -> None:
        pid = data.draw(st.sampled_from(sorted(self.host.tasks)))
        self.apply(c.UnmapHugePages(pid, 0, first, count))

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        self.apply(c.ExitTask(data.draw(st.sampled_from(sorted(self.host.tasks)))))

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data(), keep=st.one_of(st.none(), st.integers(0, 256)), pages=st.integers(0, 5000))
    def shrink(self, data: st.DataObject, keep: int | None, pages: int) -> None:
        pid = data.draw(st.sampled_from(sorted(self.host.tasks)))
        self.apply(c.ShrinkTask(pid, pages, keep))

    @rule(count=st.integers(1, 10), first=st.integers(0, 8), path=FILES)
    def fallocate(self, count: int, first: int, path: str) -> None:
        self.apply(c.FallocateFile(path, count, first))

    @rule(count=st.integers(1, 10), first=st.integers(0, 8), path=FILES)
    def punch(self, count: int, first: int, path: str) -> None:
        self.apply(c.PunchFile(path, count, first))

    @rule(size=st.integers(0, 12), path=FILES)
    def truncate(self, size: int, path: str) -> None:
        self.apply(c.TruncateFile(path, size))

    @rule(path=FILES)
    def unlink(self, path: str) -> None:
        self.apply(c.UnlinkFile(path))

    @rule(maximum=st.sampled_from([None, 8, 20]), minimum=st.sampled_from([None, 0, 5]))
    def mount(self, maximum: int | None, minimum: int | None) -> None:
        self.apply(c.MountHugetlbfs("/mnt/h", 9, maximum, minimum))

    @rule()
    def umount(self) -> None:
        self.apply(c.Umount("/mnt/h"))

    @rule(count=st.integers(1, 10), offset=st.integers(0, 5), touch=st.integers(0, 10), shared=st.booleans(),
          noreserve=st.booleans(), path=FILES, cgroup=GROUPS)  # fmt: skip
    def map_file(
        self, count: int, offset: int, touch: int, shared: bool, noreserve: bool, path: str, cgroup: str
    ) -> None:
        group = cgroup if cgroup in self.host.cgroups else ""
        self.apply(
            c.CreateTask("hugetlb", order=None, count=count, touch=min(touch, count), shared=shared,
                         noreserve=noreserve, file=path, offset=offset, cgroup=group)
        )  # fmt: skip

    @rule(count=st.integers(1, 8), key=st.integers(0, 1))
    def segment(self, count: int, key: int) -> None:
        self.apply(c.MakeSegment(key, 9, count))
        self.apply(
            c.CreateTask("hugetlb", order=None, count=count, touch=1, shared=True, file=f"SYSV{key:08x}")
        )

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data())
    def fork_a_task(self, data: st.DataObject) -> None:
        self.apply(c.ForkTask(data.draw(st.sampled_from(sorted(self.host.tasks)))))

    @precondition(lambda self: any(task.maps for task in self.host.tasks.values()))
    @rule(data=st.data(), count=st.integers(1, 12), read=st.booleans())
    def use_again(self, data: st.DataObject, count: int, read: bool) -> None:
        pid = data.draw(st.sampled_from([pid for pid, task in self.host.tasks.items() if task.maps]))
        mapping = next(iter(self.host.tasks[pid].maps.values()))
        self.apply(c.TouchHugePages(pid, mapping.map_id, min(count, mapping.count), 0, read))

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data(), advice=st.sampled_from(["dontneed", "remove"]))
    def advise(self, data: st.DataObject, advice: str) -> None:
        self.apply(c.AdviseHugePages(data.draw(st.sampled_from(sorted(self.host.tasks))), 0, advice))

    # -- control groups ----------------------------------------------------------------------------------

    @rule(path=GROUPS, parents=st.booleans())
    def make_cgroup(self, path: str, parents: bool) -> None:
        self.apply(c.MakeCgroup(path, parents))

    @rule(path=GROUPS)
    def remove_cgroup(self, path: str) -> None:
        self.apply(c.RemoveCgroup(path))

    @rule(
        path=GROUPS, kind=st.sampled_from(["pages", "reservations"]), limit=st.sampled_from([None, 0, 6, 15])
    )
    def limit(self, path: str, kind: str, limit: int | None) -> None:
        self.apply(c.SetCgroupLimit(path, 9, kind, limit))

    @rule(path=GROUPS, enabled=st.booleans())
    def subtree_control(self, path: str, enabled: bool) -> None:
        self.apply(c.SetSubtreeControl(path, enabled))

    @precondition(lambda self: self.host.tasks)
    @rule(data=st.data(), path=GROUPS)
    def move(self, data: st.DataObject, path: str) -> None:
        self.apply(c.MoveTask(data.draw(st.sampled_from(sorted(self.host.tasks))), path))

    # -- memory blocks and ranges ------------------------------------------------------------------------

    @rule(
        block=st.integers(0, 44),
        word=st.sampled_from(["offline", "online", "online_movable", "online_kernel"]),
    )
    def block_state(self, block: int, word: str) -> None:
        self.apply(c.SetBlockState(block, word))

    @rule(
        node=st.integers(0, 1), blocks=st.integers(1, 2), word=st.sampled_from(["online_movable", "offline"])
    )
    def plug_in(self, node: int, blocks: int, word: str) -> None:
        if self.host.mem.nr_sections < 44:
            self.apply(c.SetAutoOnline(word))
            self.apply(c.AddMemory(node, blocks * 32768))

    @rule(block=st.one_of(st.integers(0, 8), st.integers(32, 44)))
    def plug_out(self, block: int) -> None:
        self.apply(c.SetBlockState(block, "offline"))
        self.apply(c.RemoveMemory(block))

    @rule(block=st.integers(0, 44), mib=st.sampled_from([2, 4, 64]))
    def unplug(self, block: int, mib: int) -> None:
        self.apply(c.UnplugMemory(block, mib * 256))

    @rule(block_pages=st.sampled_from([512, 4096, 32768, 65536]), parts=st.integers(0, 130))
    def device(self, block_pages: int, parts: int) -> None:
        if self.host.mem.nr_sections < 44 or self.host.virtio_mem:
            self.apply(c.AddVirtioMem("vm0", 0, 65536, block_pages, min(65536, parts * block_pages)))

    @precondition(lambda self: self.host.virtio_mem)
    @rule(parts=st.sampled_from([0, 0, 1, 63, 64, 100, 128]))
    def request(self, parts: int) -> None:
        self.apply(c.RequestVirtioMem("vm0", parts * 512))
        self.apply(c.RetryVirtioMem("vm0"))
        self.apply(c.RemoveVirtioMem("vm0"))

    @rule(block=st.integers(32, 44), blocks=st.integers(1, 2))
    def eject(self, block: int, blocks: int) -> None:
        self.apply(c.EjectMemory(block, blocks))

    @rule(pfn=st.integers(0, 200_000), mode=st.sampled_from(["hard", "soft"]))
    def poison(self, pfn: int, mode: str) -> None:
        self.apply(c.PoisonPage(pfn, mode))

    @precondition(lambda self: self.host.hstates[9].nr_huge_pages)
    @rule(data=st.data(), offset=st.sampled_from([0, 3]), mode=st.sampled_from(["hard", "soft"]))
    def poison_a_huge_page(self, data: st.DataObject, offset: int, mode: str) -> None:
        heads = np.flatnonzero(self.host.mem.flags & BlockFlag.HEAD)
        head = data.draw(st.integers(0, heads.size - 1))
        self.apply(c.PoisonPage(int(heads[head]) * 512 + offset, mode))

    @rule(start=st.integers(0, 500_000), pages=st.sampled_from([1, 512, 700, 4096]))
    def take_range(self, start: int, pages: int) -> None:
        self.apply(c.AllocContigRange(start, start + pages))

    @rule(pages=st.sampled_from([512, 1024, 5000]))
    def find_range(self, pages: int) -> None:
        self.apply(c.AllocContigPages(pages))

    @precondition(lambda self: self.host.cma_areas)
    @rule(pages=st.sampled_from([1, 512, 5000, 16384]), free=st.integers(0, 6000))
    def take_of_area(self, pages: int, free: int) -> None:
        self.apply(c.AllocCma("reserved", pages))
        self.apply(c.FreeCma("reserved", free))

    @precondition(lambda self: self.host.contig_ranges)
    @rule(data=st.data())
    def free_range(self, data: st.DataObject) -> None:
        self.apply(c.FreeContigRange(data.draw(st.sampled_from(sorted(self.host.contig_ranges)))))

    # -- worker, faults, tunables ------------------------------------------------------------------------

    @rule()
    def drain(self) -> None:
        self.apply(c.RunFreeHpageWork())
        assert not self.host.deferred

    @rule(
        point=st.sampled_from(FaultPoint),
        probability=st.sampled_from([30, 100]),
        times=st.sampled_from([-1, 1, 7]),
        space=st.sampled_from([0, 5, 1000]),
    )
    def arm(self, point: str, probability: int, times: int, space: int) -> None:
        self.apply(c.SetFault(point, probability, 1, times, space))

    @rule(point=st.sampled_from(FaultPoint))
    def disarm(self, point: str) -> None:
        self.apply(c.ClearFault(point))

    @rule(kbytes=st.sampled_from([1024, 20_000, 60_000]))
    def watermarks(self, kbytes: int) -> None:
        self.apply(c.SetMinFreeKbytes(kbytes))

    @rule()
    def copies_are_independent(self) -> None:
        before = digest(self.host)
        twin = fork(self.host)
        assert digest(twin) == before
        apply(twin, c.SetMaxHugePages(9, 3))
        assert digest(self.host) == before

    @invariant()
    def every_law_holds(self) -> None:
        if not hasattr(self, "host"):
            return
        broken = [law for law in check(self.host) if not law.ok]
        assert not broken, broken
        assert 0 <= free_pages(self.host) <= total_pages(self.host)


# 40 runs of 50 steps: 2,000 steps with all laws after each.
RandomCommands.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestRandomCommands = RandomCommands.TestCase
