"""A random walk over cgroups, hugetlbfs mounts, shared files and forks: who is charged, and who gets a SIGBUS.

The pool is small, so that limits are met all the time.  Every refusal is welcome: the kernel says what it is.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from oracle.recorder import Recorder

MOUNTS = ("/mnt/p", "/mnt/q")
GROUPS = ("a", "a/b", "a/c", "d")
LEAVES = ("a/b", "a/c", "d")  # those that take tasks
PROCESSES = 14  # in all: the agent has so many slots
WEIGHTS = {"map": 18, "touch": 24, "read": 8, "unmap": 5, "fork": 6, "exit": 4, "start": 4, "file": 16, "limit": 8,
           "move": 4, "pool": 3, "group": 3}  # fmt: skip


@dataclass
class GroupWalk:
    """Random steps on one guest.  ``maps``: of every process, its mappings that are whole, with their lengths."""

    recorder: Recorder
    rng: random.Random
    maps: dict[int, dict[int, int]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    started: int = 0
    mapped: int = 0

    def run(self, steps: int) -> None:
        """At least ``steps`` steps; then everything is given back."""
        self.do("write", path="2M/nr_hugepages", data=self.rng.choice((6, 10, 16, 30)))
        for mount in MOUNTS:
            self.mount(mount)
        for group in GROUPS:
            self.do("cgroup", path=group, action="create")
        self.start()
        while len(self.recorder.trace["steps"]) < steps and (self.maps or self.started < PROCESSES):
            actions = [name for name in WEIGHTS if self.possible(name)]
            getattr(self, self.rng.choices(actions, [WEIGHTS[name] for name in actions])[0])()
        for task in list(self.maps):
            self.do("exit", task=task)
        for mount in MOUNTS:
            self.do("umount", path=mount)

    def possible(self, action: str) -> bool:
        """Whether an action makes sense now."""
        room = self.started < PROCESSES and len(self.maps) < 6
        return {
            "start": room,
            "fork": room and bool(self.maps),
            "file": bool(self.maps and self.files),
            "touch": any(self.maps.values()),
            "read": any(self.maps.values()),
            "unmap": any(self.maps.values()),
        }.get(action, bool(self.maps))

    def do(self, kind: str, **fields: Any) -> bool:
        """One step; whether the kernel did it."""
        return self.recorder.step({"do": kind, **fields})["errno"] is None

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def task(self) -> int:
        return self.rng.choice(sorted(self.maps))

    def mount(self, path: str) -> None:
        limits = {
            word: f"{2 * self.rng.randint(low, high)}M"
            for word, low, high in (("size", 4, 14), ("min_size", 1, 8))
            if self.chance(0.6)
        }
        if self.do("hugetlbfs-mount", path=path, **limits) or self.do("hugetlbfs-mount", path=path):
            self.files += [f"{path}/{name}" for name in "xy"]

    # -- processes -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """A process, kept on one processor as are its children: else the scheduler says which node serves it."""
        group = self.rng.choice((*LEAVES, None))
        self.do("start", task=self.started, **({} if group is None else {"cgroup": group}))
        self.do("run-on-cpu", task=self.started, cpu=0)
        self.maps[self.started] = {}
        self.started += 1

    def fork(self) -> None:
        parent = self.task()
        if self.do("fork", task=parent, child=self.started):
            self.maps[self.started] = dict(self.maps[parent])
            self.started += 1

    def exit(self) -> None:
        task = self.task()
        self.do("exit", task=task)
        del self.maps[task]

    def move(self) -> None:
        self.do("cgroup-move", task=self.task(), cgroup=self.rng.choice(GROUPS))

    # -- mappings and files --------------------------------------------------------------------------------

    def map(self) -> None:
        task, number = self.task(), self.mapped % 60
        self.mapped += 1
        fields: dict[str, Any] = {
            word: True
            for word, share in (("shared", 0.5), ("noreserve", 0.25), ("populate", 0.12))
            if self.chance(share)
        }
        if self.files and self.chance(0.65):
            fields |= {"file": self.rng.choice(self.files), "offset": self.rng.choice((0, 0, 1, 2, 4))}
        count = self.rng.randint(1, 8)
        if self.do("huge-map", task=task, map=number, count=count, **fields):
            self.maps[task][number] = count

    def part(self) -> tuple[int, int, int, int]:
        """Of some mapping: the process, its number, a first page and a count."""
        task = self.rng.choice([task for task in sorted(self.maps) if self.maps[task]])
        number = self.rng.choice(sorted(self.maps[task]))
        length = self.maps[task][number]
        first = self.rng.choice((0, self.rng.randrange(length)))
        return task, number, first, self.rng.randint(1, length - first)

    def touch(self) -> None:
        self._use(self.rng.choice(("huge-touch", "huge-write")))

    def read(self) -> None:
        self._use("huge-read")

    def _use(self, kind: str) -> None:
        task, number, first, count = self.part()
        self.do(kind, task=task, map=number, count=count, **{"from": first})

    def unmap(self) -> None:
        """Of a mapping that is unmapped in part, nothing more is asked."""
        task, number, first, count = self.part()
        self.do("huge-unmap", task=task, map=number, count=count, **{"from": first})
        del self.maps[task][number]

    def file(self) -> None:
        what = self.rng.choice(("fallocate", "fallocate", "punch", "truncate", "unlink"))
        count = self.rng.randint(0 if what == "truncate" else 1, 6)
        path, first = self.rng.choice(self.files), self.rng.randint(0, 5)
        self.do("huge-file", task=self.task(), path=path, op=what, count=count, **{"from": first})

    # -- limits --------------------------------------------------------------------------------------------

    def limit(self) -> None:
        file = self.rng.choice(("hugetlb.2MB.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"))
        data = self.rng.choice(("max", "max", f"{2 * self.rng.randint(0, 12)}M", "5000000", "garbage"))
        self.do("cgroup-write", path=self.rng.choice(GROUPS), file=file, data=data)

    def group(self) -> None:
        self.do("cgroup", path=self.rng.choice(GROUPS), action=self.rng.choice(("remove", "create")))

    def pool(self) -> None:
        path = self.rng.choice(("2M/nr_hugepages", "2M/nr_overcommit_hugepages"))
        self.do("write", path=path, data=self.rng.choice((0, 4, 10, 20, 30)))
