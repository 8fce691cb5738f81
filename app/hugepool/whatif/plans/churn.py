"""How many huge pages can still be formed after a while of allocation and freeing, from several seeds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from hugepool.forms.plans import ChurnBody
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import CreateTask, ExitTask, GrowTask, SetMaxHugePages, ShrinkTask
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import ULONG_MAX
from hugepool.whatif.plans.search import attempt
from hugepool.whatif.run import Progress

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
SMALLEST, LARGEST = 1 << 8, 1 << 18  # pages of a program: 1 MiB to 1 GiB
SHARE_OF_ROOM = 16  # no program takes more than this part of what may be in use
KEPT_OF_256 = (0, 4, 16, 64)  # what a program that shrinks keeps of every 256 pages
BySize = dict[str, int]  # huge pages by their size


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Over the seeds, nearest rank."""

    p0: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    p100: int


@dataclass(frozen=True, slots=True)
class ChurnHistory:
    """What came of a seed: pages that can be formed, by size."""

    seed: int
    running: BySize
    after_exit: BySize


@dataclass(frozen=True, slots=True)
class Churn:
    """Huge pages that can be formed, by size: each size as if the other were left alone.

    Attributes:
        running: while the programs run.
        after_exit: when all that can be moved is free.
    """

    rounds: int
    unmovable_percent: int
    fill_percent: int
    now: BySize
    running: dict[str, Percentiles]
    after_exit: dict[str, Percentiles]
    seeds: list[ChurnHistory]


def pieces(_host: Host, body: ChurnBody) -> list[int | None]:
    """The work in pieces: what there is now, and a history for each seed."""
    return [None, *range(body.seed, body.seed + body.seeds)]


def churn(host: Host, body: ChurnBody, seed: int | None, progress: Progress) -> BySize | ChurnHistory:
    """What can be formed now; or a history: while its programs run, and when all that can be moved is free."""
    if seed is None:
        return formable(host)
    copy = fork(host)
    story = _Story(copy, body, random.Random(seed))  # noqa: S311  # a simulation, no secret
    for i in range(body.rounds):
        story.round()
        progress(i + 1, body.rounds)
    running = formable(copy)
    story.end_movable()
    return ChurnHistory(seed, running, formable(copy))


def combined(_host: Host, body: ChurnBody, results: Sequence[Any]) -> Churn:
    """Percentiles over the seeds (nearest rank), and every seed."""
    histories: list[ChurnHistory] = list(results[1:])
    return Churn(
        rounds=body.rounds,
        unmovable_percent=body.unmovable_percent,
        fill_percent=body.fill_percent,
        now=results[0],
        running=_spread([each.running for each in histories]),
        after_exit=_spread([each.after_exit for each in histories]),
        seeds=histories,
    )


def formable(host: Host) -> BySize:
    """Pages of each size that could be allocated besides what there is, each size alone."""
    found = {}
    for order, hs in sorted(host.hstates.items()):
        trial = attempt(host, SetMaxHugePages(order, ULONG_MAX))
        found[hs.size] = 0 if trial.result is None else trial.result.allocated
    return found


def _spread(rows: Sequence[BySize]) -> dict[str, Percentiles]:
    spread = {}
    for size in rows[0]:
        values = sorted(row[size] for row in rows)
        spread[size] = Percentiles(*(values[max(0, ceil(p * len(values) / 100) - 1)] for p in PERCENTILES))
    return spread


class _Story:
    """Programs that come, take memory, thin it out and go."""

    def __init__(self, host: Host, body: ChurnBody, chance: random.Random) -> None:
        self.host, self.body, self.chance = host, body, chance
        self.room = sum(zone.nr_free for zone in host.zones) * body.fill_percent // 100
        self.pids: dict[str, list[int]] = {"anon": [], "kernel": []}
        self.used = {"anon": 0, "kernel": 0}

    def round(self) -> None:
        """Fill up to the limit, then give back a random part."""
        while sum(self.used.values()) < self.room and self._start():
            pass
        goal = self.chance.randrange(self.room // 4, self.room // 2 + 1) if self.room else 0
        while sum(self.used.values()) > goal:
            self._give_back()

    def end_movable(self) -> None:
        """Whatever could be moved is free."""
        for pid in self.pids["anon"]:
            apply(self.host, ExitTask(pid))
        self.pids["anon"].clear()

    def _start(self) -> bool:
        """A program comes; whether it got any memory.  What it is keeps the share of unmovable memory."""
        total = sum(self.used.values())
        kind = "kernel" if self.used["kernel"] * 100 < self.body.unmovable_percent * (total + 1) else "anon"
        most = max(SMALLEST, min(LARGEST, self.room // SHARE_OF_ROOM))
        pages = min(self.chance.randrange(SMALLEST, most + 1), self.room - total)
        if kind == "kernel":
            pages = max(1, min(pages, self.room * self.body.unmovable_percent // 100 - self.used["kernel"]))
        try:
            pid = apply(self.host, CreateTask(kind, kind, pages=0)).result.pid
            got = apply(self.host, GrowTask(pid, kind, pages, partial=True)).result.pages
        except MMError:
            return False
        self.pids[kind].append(pid)
        self.used[kind] += got
        return got > 0

    def _give_back(self) -> None:
        """A random program goes, or keeps a page here and there."""
        total = sum(self.used.values())
        kind = "kernel" if self.chance.randrange(total) < self.used["kernel"] else "anon"
        mine = self.pids[kind]
        i = self.chance.randrange(len(mine))
        kept = self.chance.choice(KEPT_OF_256)
        if kept:
            freed = apply(self.host, ShrinkTask(mine[i], keep_of_256=kept)).result.pages
        if not kept or not freed:
            freed = apply(self.host, ExitTask(mine.pop(i))).result.freed_pages
        self.used[kind] = max(0, self.used[kind] - freed)
