"""Steps of a recording as commands to the model: one handler per kind of step."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hugepool.fs import write as fs_write
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import Outcome, apply
from hugepool.mm.commands.registry import Answer
from hugepool.mm.kernel.pcp_sizes import set_limits
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.fault_inject import FaultAttr, FaultPoint
from hugepool.mm.machine.mmzone import BlockFlag
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, order_of
from hugepool.replay import group_steps
from hugepool.replay.environment import settle_lists, settle_zones
from hugepool.replay.played import NotModelledError, Played
from hugepool.replay.trace import Step, Trace

STEP_NS = 1_000_000_000  # between two recorded steps, the snapshot included
PAGE_NS = 75_000  # a single page that a process touches or gives back, in an emulated machine
HUGE_PAGE_NS = 30_000_000  # the same for a huge page
AGENT_TABLES = 9  # page-table pages of one process of the recording agent
REQUESTS_OF_ONE_PAGE = (
    FaultPoint.VMEMMAP_RESTORE,
    FaultPoint.VMEMMAP_PAGE_TABLE,
    FaultPoint.VMEMMAP_HEAD_FRAME,
)
KILLED = "ECHILD"  # the recorder finds no such process any more
FAULT_DIR = "/sys/kernel/debug/fail_page_alloc/"
HIGH_FRACTION = "/proc/sys/vm/percpu_pagelist_high_fraction"
QUIET_PATHS = ("/proc/self/make-it-fail", "/proc/sys/vm/watermark_boost_factor")
POISON_PATHS = tuple(f"/sys/devices/system/memory/{mode}_offline_page" for mode in ("hard", "soft"))


@dataclass(slots=True)
class Player:
    """Plays steps on a host.

    ``adopting``: steps before the first snapshot, whose memory the boot snapshot already holds.
    ``exhausted``: the last pool write found a node full.  ``pool``: unpromised free pages of each size that the
    recording last showed.  ``ends``: recorded and own length of the mappings that took all of a pool.
    ``refused``: mappings that were refused.  ``recorded_pids``: the model's process for a recorded pid.
    ``began_on``: the node of each process, by the step that started it.  ``dead``: processes that were killed.
    ``inputs``: what was taken from the recording, and how often; none of it is an answer.
    ``places``: where the model has the huge page that the recording has at a page frame, from its lists of heads.
    """

    host: Host
    trace: Trace
    agent_pages: int
    adopting: bool = False
    exhausted: bool = False
    now_ns: int = 0
    passed_ns: int = STEP_NS
    pids: dict[int, int] = field(default_factory=dict)
    maps: dict[tuple[int, int], int] = field(default_factory=dict)
    pool: dict[str, int] = field(default_factory=dict)
    ends: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    refused: set[tuple[int, int]] = field(default_factory=set)
    recorded_pids: dict[str, int] = field(default_factory=dict)
    began_on: dict[int, int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    inputs: Counter[str] = field(default_factory=Counter)
    fault: FaultAttr = field(default_factory=lambda: FaultAttr(probability=0, times=0))

    def play(self, step: Step) -> Played:
        """Play one step.  Raises NotModelledError for kinds without a rule."""
        handler = _HANDLERS.get(step.do)
        if handler is None:
            raise NotModelledError(step.do)
        self.now_ns += self.passed_ns
        self.passed_ns = STEP_NS + _duration(step)
        if step.errno == KILLED:
            return self._killed(step)
        try:
            played = self._handled(handler, step)
        except NotFound as error:
            if step.errno is None and "path" in step.op:  # the guest has a file that the model has not
                raise NotModelledError(str(step.op["path"])) from None
            played = Played(-1, error.errno)
        except MMError as error:
            played = Played(-1, error.errno)
        except (KeyError, TypeError, ValueError) as error:
            raise NotModelledError(f"a step {step.do} of another form: {error!r}") from None
        if self.host.deferred and self.host.deferred_mode == "auto":
            played.released = sum(1 << q.order for q in self.host.deferred)
            self.apply(c.RunFreeHpageWork())
        if step.after is not None and step.do == "write" and self.exhausted:
            settle_lists(self.host, step.after["zones"])
        if step.after is not None:
            self.pool = {
                size: files["free_hugepages"] - files["resv_hugepages"]
                for size, files in step.after["hugepages"].items()
            }
        return played

    def _killed(self, step: Step) -> Played:
        """Whom the guest's OOM killer picks is an input: the process is gone, and its memory with it."""
        task = step.op["task"]
        if task not in self.dead:
            self.inputs["the OOM killer ended a process"] += 1
            self.dead.add(task)
            if task in self.pids:
                self.apply(c.ExitTask(self.pids.pop(task)))
        return Played(-1, KILLED)

    def _handled(self, handler: "Handler", step: Step) -> Played:
        """How far a worker got at the side is an input: where the recorded one had finished, so does the model's."""
        op = {**step.op, "label": step.label, "result": step.result, "index": step.index}
        try:
            return handler(self, op)
        except MMError as error:
            if error.reason != Reason.IN_FLIGHT or step.errno is not None:
                raise
        self.inputs["the deferred-free worker kept up"] += 1
        self.apply(c.RunFreeHpageWork())
        return handler(self, op)

    def apply(self, command: c.Command[Answer]) -> Outcome[Answer]:
        """Apply a command.  Raises what the model refuses, but for pool writes, which tell how they ended."""
        outcome = apply(self.host, command, self.now_ns)
        if outcome.error is not None and not isinstance(command, c.SetMaxHugePages | c.Demote):
            raise outcome.error
        return outcome

    # -- files -------------------------------------------------------------------------------------------

    def write(self, op: dict[str, Any]) -> Played:
        """write(2) of a file."""
        path, data = op["path"], op["data"]
        if path.startswith(FAULT_DIR):
            self._set_fault(path[len(FAULT_DIR) :], data)
            return Played(len(data))
        if path == HIGH_FRACTION:
            self.host.percpu_pagelist_high_fraction = int(data)
            set_limits(self.host.zones)
            return Played(len(data))
        if path.startswith(QUIET_PATHS):
            return Played(len(data))
        if group_steps.is_of_cgroups(path):
            path, data = group_steps.canonical(path), self._pid_told(path, data)
        if path in POISON_PATHS:
            data = self._placed(data)
        written = fs_write.parse_write(self.host, path, data.encode(), self._writer(op.get("task")))
        command = written.command
        if command is None:
            return Played(written.used)
        outcome = self.apply(command)
        if isinstance(command, c.SetMaxHugePages):
            self.exhausted = bool(outcome.result.full_nodes)
            return Played(written.used, facts={"full_nodes": outcome.result.full_nodes})
        if isinstance(command, c.Demote) and outcome.error is not None:
            return Played(-1, outcome.error.errno)
        return Played(written.used)

    def _pid_told(self, path: str, data: str) -> str:
        """What is written to a cgroup's file: a pid as the model has it."""
        return str(self.recorded_pids.get(data, data)) if path.endswith("/cgroup.procs") else data

    def writes(self, op: dict[str, Any]) -> Played:
        """Several writes back to back; answers the last errno that differs from the recording's."""
        errors = []
        for one in op["writes"]:
            try:
                played = self.write(one)
            except MMError as error:
                played = Played(-1, error.errno)
            if (played.errno is not None) != bool(one["errno_number"]):
                errors.append(f"{one['path']} <- {one['data']}: {played.errno}")
        return Played(0, facts={"writes": errors})

    def squeeze(self, op: dict[str, Any]) -> Played:
        """min_free_kbytes raised, a write, and min_free_kbytes restored."""
        before = self.host.min_free_kbytes
        self.apply(c.SetMinFreeKbytes(op["min_free_kbytes"]))
        played = self.write(op)
        self.apply(c.SetMinFreeKbytes(before))
        return played

    def _set_fault(self, word: str, data: str) -> None:
        if word in ("space", "times", "interval", "probability"):
            setattr(self.fault, word, int(data))
        if self.fault.armed:
            for point in REQUESTS_OF_ONE_PAGE:
                self.host.faults[point] = self.fault
        else:
            self.host.faults.clear()

    def _writer(self, task: int | None) -> fs_write.Writer:
        if task is None or task not in self.pids:
            return fs_write.Writer("init")
        of_task = self.host.tasks[self.pids[task]]
        nodes = None
        if of_task.policy_mode != "default":
            nodes = tuple(of_task.policy_nodes) or (
                self.host.memory_nodes()[0],
            )  # local: the node it runs on
        return fs_write.Writer("init", nodes)

    def quiet(self, op: dict[str, Any]) -> Played:
        """A step that changes nothing but, in early recordings, the fault injection its label tells of."""
        words = re.search(r"fault injection (on|off)(?:: times=(\d+) space=(\d+))?", str(op.get("label", "")))
        if words:
            self.fault.times = int(words[2] or 0) if words[1] == "on" else 0
            self.fault.space = int(words[3] or 0)
            self.fault.probability = 100
            self._set_fault("interval", "1")
        return Played(None)

    def _placed(self, address: str) -> str:
        """A recorded physical address as the model's: the same page of the same huge page, in order of address."""
        pfn = int(address, 16) >> 12
        head = pfn // PAGEBLOCK_PAGES * PAGEBLOCK_PAGES
        return hex(self.places.get(head, head) + pfn - head << 12)

    def _note_places(self, op: dict[str, Any]) -> None:
        recorded = [int(word, 16) for word in str(op["data"]).split()]
        if op["what"] == "pfns-of-map":
            pages = self.host.tasks[self.pid_of(op["task"])].maps[self.map_of(op)].pages
            mine = [pages[index] for index in sorted(pages)]
        else:
            low, high = (int(str(arg), 16) for arg in op["args"])
            heads = np.flatnonzero(self.host.mem.flags & BlockFlag.HEAD)
            mine = heads[(heads >= low // PAGEBLOCK_PAGES) & (heads < high // PAGEBLOCK_PAGES)].tolist()
        self.places |= {pfn: head * PAGEBLOCK_PAGES for pfn, head in zip(recorded, mine, strict=False)}

    def observe(self, op: dict[str, Any]) -> Played:
        """A probe: where the recording has its huge pages says where the model has them."""
        if op.get("what") in ("hugepage-heads", "pfns-of-map"):
            self._note_places(op)
        return Played(None)

    # -- processes ---------------------------------------------------------------------------------------

    def start(self, op: dict[str, Any]) -> Played:
        """A fork of the recording agent: it copies the agent's locked memory."""
        command = c.StartTask("process", "agent", resident=0 if self.adopting else self.agent_pages,
                              tables=0 if self.adopting else AGENT_TABLES, cpu=self._cpu(op))  # fmt: skip
        pid = self.apply(command).result.pid
        self.pids[op["task"]] = pid
        self.recorded_pids[str(op.get("result"))] = pid
        if self.adopting:
            self.apply(c.AdoptPages(pid, "anon", self.agent_pages))
            self.apply(c.AdoptPages(pid, "kernel", AGENT_TABLES))
        if "cgroup" in op:
            self.apply(c.MoveTask(pid, op["cgroup"]))  # a refusal leaves the process in the root
        return Played(pid)

    def _cpu(self, op: dict[str, Any]) -> int:
        """A processor of the node that the process began on, an input where there are several."""
        nid = self.began_on.get(op.get("index", -1))
        if nid is None or not self.host.nodes[nid].cpus:
            return 0
        self.inputs["the node that a process began on"] += 1
        return self.host.nodes[nid].cpus[0]

    def run_on_cpu(self, op: dict[str, Any]) -> Played:
        """sched_setaffinity to one processor."""
        self.host.tasks[self.pid_of(op["task"])].cpu = int(op["cpu"])
        return Played(0)

    def exit(self, op: dict[str, Any]) -> Played:
        """A process ends, unless it was killed before."""
        if op["task"] in self.dead:
            self.dead.remove(op["task"])
            return Played(0)
        self.apply(c.ExitTask(self.pid_of(op["task"])))
        del self.pids[op["task"]]
        return Played(0)

    def mempolicy(self, op: dict[str, Any]) -> Played:
        """set_mempolicy."""
        mask = int(op["nodemask"], 16)
        nodes = tuple(n for n in range(64) if mask >> n & 1)
        self.apply(c.SetMempolicy(self.pid_of(op["task"]), op["mode"], nodes))
        return Played(0)

    def grow(self, op: dict[str, Any]) -> Played:
        """A process touches single pages: a number, or until little is left."""
        kind = "anon" if op["do"].startswith("anon") else "kernel"
        pid, until = self.pid_of(op["task"]), op.get("until")
        if self.adopting:
            if kind == "anon":
                self.apply(c.AdoptPages(pid, "kernel", op["pages"] // PAGEBLOCK_PAGES))
            return Played(self.apply(c.AdoptPages(pid, kind, op["pages"])).result.pages)
        if until is None:
            command = c.GrowTask(pid, kind, op["pages"], partial=True)
        else:
            at_most = min(until["at_most"], op.get("observed", until["at_most"]))
            command = c.GrowTask(pid, kind, node=until.get("node"), at_most=at_most,
                                 zone_type=until["allocatable_for_zone_index"], until_node=until.get("node"),
                                 partial=True)  # fmt: skip
        taken = self.apply(command).result.pages
        if until is not None and "zones" in op:
            taken += settle_zones(self.host, pid, kind, op["zones"])
        return Played(taken)

    def shrink(self, op: dict[str, Any]) -> Played:
        """A process gives single pages back."""
        command = c.ShrinkTask(self.pid_of(op["task"]), op.get("pages", 0), op.get("keep_of_256"))
        return Played(self.apply(command).result.pages)

    # -- huge mappings -----------------------------------------------------------------------------------

    def huge_map(self, op: dict[str, Any]) -> Played:
        """mmap(MAP_HUGETLB).

        A growth to exhaustion may end a few pages apart; what maps all that came of it does so in the model.
        """
        hs, count = self.host.hstate(self.order_of(op["size_kb"])), op["count"]
        everything = self.exhausted and count == self.pool.get(hs.size)
        if everything:
            count = hs.free_huge_pages - hs.resv_huge_pages
        command = c.MapHugePages(self.pid_of(op["task"]), hs.order, count, op["shared"], op["noreserve"],
                                 file=op.get("file"), offset=op.get("offset", 0),
                                 populate=bool(op.get("populate")))  # fmt: skip
        key = op["task"], op["map"]
        self.refused.add(key)
        self.maps[key] = self.apply(command).result.map
        self.refused.discard(key)
        if everything:
            self.ends[key] = op["count"], count
        return Played(0)

    def _count(self, op: dict[str, Any], first: int) -> int:
        """Pages of a part of a mapping: what reaches the recorded end of the mapping reaches the model's."""
        count = int(op["count"])
        recorded, own = self.ends.get((op["task"], op["map"]), (None, 0))
        return own - first if first + count == recorded else count

    def huge_touch(self, op: dict[str, Any]) -> Played:
        """Touch pages of a mapping, that is write them."""
        return self.touch(op)

    def touch(self, op: dict[str, Any], *, read: bool = False) -> Played:
        """Write or read pages of a mapping; one that was refused is not there: SIGSEGV."""
        if (op["task"], op["map"]) in self.refused:
            return Played(0, signal="SIGSEGV")
        first = op["from"]
        count = self._count(op, first)
        done = self.apply(
            c.TouchHugePages(self.pid_of(op["task"]), self.map_of(op), count, first, read)
        ).result
        return Played(done.touched, signal=done.signal)

    def huge_unmap(self, op: dict[str, Any]) -> Played:
        """munmap, whole or in part.  The agent does not unmap what was refused."""
        if (op["task"], op["map"]) in self.refused:
            return Played(-1, "EINVAL")
        first = op.get("from", 0)
        count = self._count(op, first) if "count" in op else None
        self.apply(c.UnmapHugePages(self.pid_of(op["task"]), self.map_of(op), first, count))
        return Played(0)

    def huge_file(self, op: dict[str, Any]) -> Played:
        """fallocate on hugetlbfs."""
        pid = self.pids.get(op.get("task", -1))
        self.apply(c.FallocateFile(op["path"], op["mib"] // 2, pid=pid))
        return Played(0)

    def unlink(self, op: dict[str, Any]) -> Played:
        """Remove a hugetlbfs file."""
        self.apply(c.UnlinkFile(op["path"]))
        return Played(0)

    def order_of(self, size_kb: int) -> int:
        """The order of a huge page size."""
        order = order_of(f"{size_kb}kB")
        if order is None:
            raise NotModelledError(f"huge pages of {size_kb} kB")
        return order

    def pid_of(self, task: int) -> int:
        """The model's pid of a recorded process."""
        if task not in self.pids:  # processes of early recordings begin with their first mapping
            self.start({"task": task})
        return self.pids[task]

    def map_of(self, op: dict[str, Any]) -> int:
        """The model's number of a recorded mapping."""
        if (op["task"], op["map"]) not in self.maps:
            raise NotModelledError("a mapping that was not recorded")
        return self.maps[op["task"], op["map"]]


def _duration(step: Step) -> int:
    """How long a recorded step took: recordings have no times, but emulation has its price for each page."""
    if step.do == "wait":
        return int(step.op.get("ms", 0)) * 1_000_000
    pages = max(0, step.result or 0)
    if step.do in ("anon-grow", "anon-shrink", "kernel-grow", "kernel-shrink"):
        return pages * PAGE_NS
    return pages * HUGE_PAGE_NS if step.do == "huge-touch" else 0


Handler = Callable[[Player, dict[str, Any]], Played]
_HANDLERS: dict[str, Handler] = {
    "write": Player.write,
    "writes": Player.writes,
    "squeeze": Player.squeeze,
    "observe": Player.observe,
    "wait": Player.quiet,
    "anon-map": Player.quiet,
    "kernel-map": Player.quiet,
    "start": Player.start,
    "exit": Player.exit,
    "mempolicy": Player.mempolicy,
    "run-on-cpu": Player.run_on_cpu,
    "anon-grow": Player.grow,
    "kernel-grow": Player.grow,
    "anon-shrink": Player.shrink,
    "kernel-shrink": Player.shrink,
    "kernel-thin": Player.shrink,
    "huge-map": Player.huge_map,
    "huge-touch": Player.huge_touch,
    "huge-write": Player.huge_touch,
    "huge-unmap": Player.huge_unmap,
    "huge-file-allocate": Player.huge_file,
    "unlink": Player.unlink,
    **group_steps.HANDLERS,
}
