"""A seeded random walk over the kinds of steps: what it does next depends on the seed and on the kernel's answers.

Each action is a method with a weight; ``WEIGHTS`` says how often it comes, ``Walk.possible`` when it may.  It keeps
to what a replay can compare: memory is left for the guest itself, and a memory block is taken offline only when
its number of huge pages does not depend on placement (none, or all of it).
"""

import random
from dataclasses import dataclass, field, replace
from typing import Any

from oracle.kernels import say
from oracle.machine import Machine
from oracle.recorder import Recorder

SHAPES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"memory": "2G"}, {"memory": "4G"}],
    "numa": [{"memory": "4G", "numa": ("2G", "2G")}, {"memory": "4G", "numa": ("3G", "1G")}],
    "movable": [{"memory": "5G", "qemu_machine": "pc,max-ram-below-4g=1G", "cmdline": "movablecore=2G"}],
    "dimm": [{"memory": "2G", "dimms": ("1G",), "cmdline": "memhp_default_state=online_movable"}],
    "gigantic": [{"memory": "6G"}, {"memory": "8G"}],
}
WEIGHTS = {
    "resize": 8, "resize_node": 4, "mempolicy": 1.5, "overcommit": 1.5, "gigantic": 2, "demote": 2, "overgrow": 0.3,
    "start": 2, "map": 4, "touch": 4, "unmap": 3, "exit": 1.5, "file": 0.8, "unlink": 0.8,
    "pressure": 1, "squeeze": 0.7, "min_free": 0.7, "switch": 0.7, "garbage": 0.7,
    "offline": 2, "online": 2, "plug": 3, "unplug": 0.7,
}  # fmt: skip
GARBAGE = ("abc", "-1", "", "0x10", " 8", "12abc", "1.5", "18446744073709551616")
CALM = (  # short per-CPU lists: limits are exact
    ("vm/watermark_boost_factor", 0),
    ("vm/percpu_pagelist_high_fraction", 1000),
)
MARGINS = (3000, 1000, 300, 100, 50, 20, 10, 7, 6, 3, 0)  # allocatable pages that an anonymous process leaves
HUGE = 512  # base pages of a 2 MiB page
SPARE = 80_000  # base pages left to the guest
BIG = 1400  # 2 MiB pages: more are too slow to fill with single pages under emulation
TOUCH = 200  # huge pages touched at once: each is cleared, which emulation makes slow
BALLOON = 12  # the task whose memory is a balloon


def shape(machine: Machine, name: str, rng: random.Random) -> Machine:
    """The machine in one of the shapes: ``any`` is one that the seed picks."""
    chosen = rng.choice(sorted(SHAPES)) if name == "any" else name
    return replace(machine, **rng.choice(SHAPES[chosen]))


class TaskKilled(Exception):
    """The kernel ended a process of the walk."""


@dataclass
class Walk:
    """Random steps on one guest.  ``maps``: (task, map) to the pages that are still mapped, from and to."""

    recorder: Recorder
    rng: random.Random
    tasks: list[int] = field(default_factory=list)
    maps: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    offline_blocks: list[str] = field(default_factory=list)
    plugged: bool = False
    names: int = 0
    usual_min_free: int = 0

    def run(self, steps: int) -> None:
        """At least ``steps`` steps; then everything is given back.

        The model has no OOM killer: where the kernel's kills a process, the recording ends.
        """
        for path, value in CALM:
            self.do("write", path=path, data=value, after="none")
        self.usual_min_free = int(self.recorder.last["sysctl"]["min_free_kbytes"])
        try:
            while len(self.recorder.trace["steps"]) < steps:
                actions = [name for name in WEIGHTS if self.possible(name)]
                action = self.rng.choices(actions, [WEIGHTS[name] for name in actions])[0]
                getattr(self, action)()
            self.give_back()
        except TaskKilled:
            say("the kernel ran out of memory and killed a process: the recording ends before that")

    def give_back(self) -> None:
        """All processes end, all files go, both pools are emptied."""
        for task in list(self.tasks):
            self._exit(task)
        for path in self.files:
            self.do("unlink", path=path)
        self.do("wait", ms=1000)
        self.do("write", path="1G/nr_hugepages", data=0)
        self.do(
            "write",
            path="2M/nr_hugepages",
            data=self.pool()["nr_hugepages"],
            label="surplus becomes persistent",
        )
        self.do("write", path="2M/nr_hugepages", data=0)

    def possible(self, action: str) -> bool:
        """Whether an action makes sense now."""
        machine, blocks = self.recorder.guest.machine, self.has_movable()
        free_task, room = len(self.tasks) < 3, self.room()
        return {
            "resize_node": bool(machine.numa),
            "mempolicy": bool(machine.numa and self.tasks),
            "start": free_task and room > 20,
            "map": bool(self.tasks),
            "touch": bool(self.maps),
            "unmap": bool(self.maps),
            "exit": bool(self.tasks),
            "file": bool(self.tasks and len(self.files) < 2),
            "unlink": bool(self.files),
            "pressure": 20 < room < BIG,
            "squeeze": room > 20,
            "gigantic": self.memory_gib() >= 4,
            "demote": bool(self.pool("1048576kB").get("nr_hugepages")),
            "offline": blocks,
            "online": bool(self.offline_blocks),
            "plug": bool(machine.dimms) and not self.plugged,
            "unplug": self.plugged and not self.maps and not self.offline_blocks,
        }.get(action, True)

    # -- what the walk knows -------------------------------------------------------------------------------

    def do(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One step.  Raises TaskKilled when the kernel has killed its process."""
        row = self.recorder.step({"do": kind, **fields})
        if row["errno"] == "ECHILD":
            self.recorder.trace["steps"].pop()
            raise TaskKilled
        return row

    def pool(self, size: str = "2048kB") -> dict[str, int]:
        pool: dict[str, int] = self.recorder.last["hugepages"].get(size, {})
        return pool

    def room(self) -> int:
        """2 MiB pages by which the pool may grow, alternating between the nodes, before any node is full."""
        nodes = len(self.recorder.guest.machine.numa) or 1
        return nodes * min(self.node_room(node) for node in range(nodes))

    def node_room(self, node: int) -> int:
        """2 MiB pages by which the pool of a node may grow."""
        zones = self.recorder.last["zones"].items()
        free = sum(zone["free"] + zone["pcp"] for name, zone in zones if name.startswith(f"{node}/"))
        return int(max(0, free - SPARE) // HUGE)

    def has_movable(self) -> bool:
        machine = self.recorder.guest.machine
        return "movablecore" in machine.cmdline or bool(machine.dimms)

    def memory_gib(self) -> int:
        return int(self.recorder.last["meminfo_kb"]["MemTotal"]) // (1 << 20) + 1

    def target(self, now: int) -> int:
        """A pool size: near, anywhere, or none."""
        most = now + self.room()
        near = now + self.rng.choice((-9, -2, -1, 1, 2, 7, 64))
        return max(
            0, min(most, self.rng.choice((near, self.rng.randint(0, most), self.rng.randint(0, most), 0)))
        )

    # -- pools -----------------------------------------------------------------------------------------------

    def resize(self, after: str = "full") -> None:
        path = self.rng.choice(("2M/nr_hugepages", "2M/nr_hugepages", "vm/nr_hugepages"))
        self.do("write", path=path, data=self.target(self.pool()["nr_hugepages"]), after=after)

    def resize_node(self) -> None:
        node = self.rng.randrange(len(self.recorder.guest.machine.numa))
        now = self.recorder.last["node_hugepages"][str(node)]["2048kB"]["nr_hugepages"]
        self.do(
            "write", path=f"node{node}/2M/nr_hugepages", data=self.rng.randint(0, now + self.node_room(node))
        )

    def mempolicy(self) -> None:
        task = self.rng.choice(self.tasks)
        mode, mask = self.rng.choice(
            (("bind", "0x1"), ("bind", "0x2"), ("interleave", "0x3"), ("preferred", "0x2"))
        )
        self.do("mempolicy", task=task, mode=mode, nodemask=mask)
        self.do(
            "write",
            task=task,
            path="2M/nr_hugepages_mempolicy",
            data=self.target(self.pool()["nr_hugepages"]),
        )
        self.do("mempolicy", task=task, mode="default", nodemask="0x0")

    def overcommit(self) -> None:
        self.do("write", path="2M/nr_overcommit_hugepages", data=self.rng.choice((0, 4, 16, 64)))

    def overgrow(self) -> None:
        self.do("write", path="2M/nr_hugepages", data=100000, label="more than fits")
        for node in range(len(self.recorder.guest.machine.numa)) or (None,):
            self.do("observe", what="allocatable", node=node)
        self.do("write", path="2M/nr_hugepages", data=self.pool()["nr_hugepages"] // 2)
        self.do("write", path="2M/nr_hugepages", data=self.rng.randint(0, 20))

    def gigantic(self) -> None:
        now = self.pool("1048576kB")["nr_hugepages"]
        self.do("write", path="1G/nr_hugepages", data=self.rng.randint(0, min(now + self.room() // HUGE, 4)))

    def demote(self) -> None:
        self.do("write", path="1G/demote", data=self.rng.choice((1, 1, 2)))

    def switch(self) -> None:
        self.do("write", path="vm/hugetlb_optimize_vmemmap", data=self.rng.choice((0, 1, 1)))

    def garbage(self) -> None:
        path = self.rng.choice(("2M/nr_hugepages", "vm/nr_hugepages", "2M/nr_overcommit_hugepages"))
        self.do("write", path=path, data=self.rng.choice(GARBAGE))

    # -- processes -------------------------------------------------------------------------------------------

    def start(self) -> None:
        task = next(number for number in range(8) if number not in self.tasks)
        self.do("start", task=task, oom_score_adj=0)
        self.tasks.append(task)

    def exit(self) -> None:
        self._exit(self.rng.choice(self.tasks))
        self.do("wait", ms=500)

    def _exit(self, task: int) -> None:
        self.recorder.step({"do": "exit", "task": task})
        self.tasks = [other for other in self.tasks if other != task]
        self.maps = {key: part for key, part in self.maps.items() if key[0] != task}

    def map(self) -> None:
        pool, task = self.pool(), self.rng.choice(self.tasks)
        free = max(0, pool["free_hugepages"] - pool["resv_hugepages"])
        count = max(
            1,
            self.rng.choice((free, free + 1, free + 16, self.rng.randint(0, free), self.rng.randint(0, 20))),
        )
        number = next(n for n in range(40) if (task, n) not in self.maps)
        shared, noreserve, populate = (self.rng.random() < share for share in (0.3, 0.2, 0.15))
        row = self.do(
            "huge-map",
            task=task,
            map=number,
            count=count,
            shared=shared,
            noreserve=noreserve,
            populate=populate,
        )
        if row["errno"] is None:
            self.maps[task, number] = (0, count)

    def touch(self) -> None:
        (task, number), (low, high) = self.rng.choice(list(self.maps.items()))
        first = self.rng.choice((low, low, self.rng.randrange(low, high)))
        count = min(TOUCH, self.rng.choice((high - first, self.rng.randint(1, high - first))))
        self.do("huge-touch", task=task, map=number, count=count, **{"from": first})

    def unmap(self) -> None:
        (task, number), (low, high) = self.rng.choice(list(self.maps.items()))
        count = self.rng.choice((high - low, self.rng.randint(1, high - low)))
        first = self.rng.choice((low, high - count))
        self.do("huge-unmap", task=task, map=number, count=count, **{"from": first})
        rest = (low + count, high) if first == low else (low, first)
        self.maps[task, number] = rest
        if rest[0] == rest[1]:
            del self.maps[task, number]
        self.do("wait", ms=500)

    def file(self) -> None:
        self.names += 1
        path = f"/mnt/huge/file{self.names}"
        row = self.do(
            "huge-file-allocate", task=self.rng.choice(self.tasks), path=path, mib=2 * self.rng.randint(1, 12)
        )
        if row["errno"] is None:
            self.files.append(path)

    def unlink(self) -> None:
        self.do("unlink", path=self.files.pop())

    # -- pressure --------------------------------------------------------------------------------------------

    def pressure(self) -> None:
        """An anonymous process takes all memory but a margin, and the pool is resized meanwhile.

        With ZONE_MOVABLE the margin is that of user pages; the reserves that they may not use are left to the kernel.
        """
        zone = 3 if self.has_movable() else 2
        self.do("start", task=BALLOON, after="none")
        self.do("anon-map", task=BALLOON, mib=16384)
        self.tasks.append(BALLOON)
        for _ in range(self.rng.randint(1, 3)):
            goal = {"node": None, "allocatable_for_zone_index": zone, "at_most": self.rng.choice(MARGINS)}
            self.do("anon-grow", task=BALLOON, until=goal, after="lean", timeout_s=300)
            self.do("observe", what="allocatable", zone_index=zone)
            now = self.pool()["nr_hugepages"]
            less = self.rng.choice((now - 1, now - 1, now // 2, 0, self.rng.randint(0, now)))
            self.do("write", path="2M/nr_hugepages", data=max(0, less), after="lean")
            self.do("observe", what="allocatable", zone_index=zone)
        self._exit(BALLOON)
        self.do("wait", ms=1000)

    def squeeze(self) -> None:
        extra = self.rng.choice((0, 8000, 12000, 20000))
        self.do(
            "squeeze",
            min_free_kbytes=self.usual_min_free + extra,
            path="2M/nr_hugepages",
            data=self.target(self.pool()["nr_hugepages"]),
        )

    def min_free(self) -> None:
        self.do(
            "write",
            path="vm/min_free_kbytes",
            data=int(self.usual_min_free * self.rng.choice((0.5, 1, 1, 1.5))),
        )

    # -- memory blocks -----------------------------------------------------------------------------------------

    def offline(self) -> None:
        """A movable block without huge pages; or, while no huge page is in use, one that is full of them."""
        pool = self.pool()
        in_use = self.maps or self.files or pool["free_hugepages"] < pool["nr_hugepages"]
        pages = self.rng.choice((0,) if in_use else (0, 64))
        blocks = self.recorder.blocks({"zone": "Movable", "hugehead": pages})
        if not blocks:
            return
        path, label = f"{self.rng.choice(blocks)}/state", f"{pages} huge pages in it"
        row = self.do("write", path=path, data="offline", label=label, timeout_s=60)
        if row["errno"] is None:
            self.offline_blocks.append(path)

    def online(self) -> None:
        self.do(
            "write",
            path=self.offline_blocks.pop(),
            data=self.rng.choice(("online_movable", "online_movable", "online")),
        )

    def plug(self) -> None:
        self.do("plug", dimm=0)
        self.plugged = True

    def unplug(self) -> None:
        before = len(self.recorder.last["memory_blocks"])
        self.do("unplug", dimm=0)
        self.plugged = len(self.recorder.last["memory_blocks"]) == before
