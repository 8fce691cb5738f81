"""Steps of recordings about single pages of processes: anonymous memory, and kernel memory in pipes.

A pipe costs kernel objects, about 2 % of its pages, which stay while it lives: how many they are is an input.
"""

from typing import TYPE_CHECKING, Any

from hugepool.mm.commands import commands as c
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES
from hugepool.replay import balance, cache_steps
from hugepool.replay.played import Played

if TYPE_CHECKING:
    from hugepool.replay.player import Player

Op = dict[str, Any]
MIB_PAGES = (1 << 20) // PAGE_SIZE
PIPE_PAGES = 256  # of a full pipe, which keeps one of them when it is emptied


def _kind(op: Op) -> str:
    return "anon" if op["do"].startswith("anon") else "kernel"


def room(player: "Player", op: Op) -> Played:
    """Room for memory: the most that the process can take of its kind from now on."""
    player.rooms[op["task"], _kind(op)] = op["mib"] * MIB_PAGES
    if op.get("mlock"):
        player.locked.add(op["task"])
    return Played(None)


def grow(player: "Player", op: Op) -> Played:
    """A process touches single pages: a number, or until little is left, within the room that it has."""
    kind, until = _kind(op), op.get("until")
    pid = player.pid_of(op["task"])
    if player.adopting:
        if kind == "anon":
            player.apply(c.AdoptPages(pid, "kernel", op["pages"] // PAGEBLOCK_PAGES))
        return Played(player.apply(c.AdoptPages(pid, kind, op["pages"])).result.pages)
    left = player.rooms.get((op["task"], kind))
    if left == 0:
        return Played(0)
    if until is not None and "file_pages_at_most" in until:
        return cache_steps.grow(player, pid, kind, op)
    slab = _take_slab(player, op) if kind == "kernel" else 0
    if until is None:
        pages = op["pages"] if left is None else min(op["pages"], left)
        command = c.GrowTask(pid, kind, pages, partial=True)
    else:
        at_most = min(until["at_most"], op.get("observed", until["at_most"]))
        if "observed" in op:
            player.inputs["where a balloon came to rest"] += 1
        command = c.GrowTask(pid, kind, left or 0, node=until.get("node"), at_most=at_most,
                             zone_type=until["allocatable_for_zone_index"], until_node=until.get("node"),
                             partial=True)  # fmt: skip
    taken = player.apply(command).result.pages
    if left is not None:
        player.rooms[op["task"], kind] = left - taken
    return Played(taken, slab=slab)


def shrink(player: "Player", op: Op) -> Played:
    """A process gives single pages back.  Pipes that are emptied keep a page each; locked memory stays before 5.18.

    Source: mm/madvise.c madvise_dontneed_free(), MADV_DONTNEED_LOCKED (5.18).
    """
    kind, pages, keep = _kind(op), op.get("pages", 0), op.get("keep_of_256")
    if kind == "anon" and op["task"] in player.locked and not player.host.profile.madvise_dontneed:
        raise MMError("EINVAL", "locked memory cannot be given back by madvise")
    if kind == "kernel":
        keep = None if keep is None else keep + 1
        pages -= pages // PIPE_PAGES
    freed = player.apply(c.ShrinkTask(player.pid_of(op["task"]), pages, keep)).result.pages
    key = op["task"], kind
    if key in player.rooms:
        player.rooms[key] += freed
    return Played(freed)


def pin(player: "Player", op: Op) -> Played:
    """A long-term pin of what the process has touched, or of its first pages; what it began with is not in it."""
    command = c.PinTask(player.pid_of(op["task"]), op.get("pages"), player.agent_pages)
    return Played(player.apply(command).result.pages)


def end(player: "Player", task: int) -> int:
    """A process has ended: what its pipes cost comes back; the pages as a negative number."""
    player.locked.discard(task)
    for kind in ("anon", "kernel"):
        player.rooms.pop((task, kind), None)
    pid = player.slab.pop(task, None)
    return -player.apply(c.ExitTask(pid)).result.freed_pages if pid is not None else 0


def _take_slab(player: "Player", op: Op) -> int:
    """Take what the recording's kernel objects grew by while a process filled pipes; the pages."""
    step = player.trace.steps[op["index"]]
    before = next((s.after for s in reversed(player.trace.steps[: step.index]) if s.after is not None), None)
    if step.after is None or before is None:
        return 0
    grown = balance.slab_change(before, step.after)
    if grown <= 0:
        return 0
    if op["task"] not in player.slab:
        player.slab[op["task"]] = player.apply(c.StartTask("process", "slab")).result.pid
    player.inputs["kernel objects of pipes"] += 1
    command = c.GrowTask(player.slab[op["task"]], "kernel", grown, partial=True)
    return player.apply(command).result.pages
