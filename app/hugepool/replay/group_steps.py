"""Steps of recordings about cgroups, hugetlbfs and mappings of its files."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hugepool.fs import render
from hugepool.mm.commands import commands as c
from hugepool.mm.kernel import hugetlbfs
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mappings import HugetlbFile
from hugepool.mm.machine.units import PAGE_SIZE, memparse
from hugepool.replay.played import NotModelledError, Played

if TYPE_CHECKING:
    from hugepool.replay.player import Player

Op = dict[str, Any]
CGROUPS = "/sys/fs/cgroup"
OLD_CGROUPS = "/mnt/cg"  # where early recordings mount cgroup2
AGENT_MOUNT = "/mnt/huge"  # the recording agent's own hugetlbfs
ADVICE = {4: "dontneed", 9: "remove"}


def mount_as_the_agent(player: "Player") -> None:
    """The agent mounts a hugetlbfs of 2 MiB pages before it records anything."""
    player.apply(c.MountHugetlbfs(AGENT_MOUNT, 9))


# -- cgroups ----------------------------------------------------------------------------------------------


def canonical(path: str) -> str:
    """A path of a cgroup's file where this machine has it."""
    return CGROUPS + path.removeprefix(OLD_CGROUPS) if path.startswith(f"{OLD_CGROUPS}/") else path


def is_of_cgroups(path: str) -> bool:
    """Whether a path lies in a mount of cgroup2."""
    return path.startswith((f"{OLD_CGROUPS}/", f"{CGROUPS}/"))


def setup(player: "Player", op: Op) -> Played:
    """Folders and mounts before the first snapshot: cgroups are folders of cgroup2."""
    path = str(op.get("args", [""])[0])
    if op.get("what") == "mkdir" and path.startswith(f"{OLD_CGROUPS}/"):
        player.apply(c.MakeCgroup(path.removeprefix(f"{OLD_CGROUPS}/")))
    return Played(None)


def cgroup(player: "Player", op: Op) -> Played:
    """mkdir, with the controller switched on above it first as the agent does; rmdir."""
    path = str(op["path"])
    if op["action"] == "remove":
        player.apply(c.RemoveCgroup(path))
    else:
        player.apply(c.SetSubtreeControl(path.rpartition("/")[0], enabled=True))
        player.apply(c.MakeCgroup(path))
    return Played(0)


def cgroup_write(player: "Player", op: Op) -> Played:
    """write(2) of a file of a cgroup."""
    return player.write({"path": f"{CGROUPS}/{op['path']}/{op['file']}", "data": op["data"]})


def cgroup_read(player: "Player", op: Op) -> Played:
    """A file of a cgroup is read."""
    text = render.render(player.host, f"{CGROUPS}/{op['path']}/{op['file']}")
    return Played(len(text), data=text)


def cgroup_move(player: "Player", op: Op) -> Played:
    """A process's pid is written to cgroup.procs."""
    player.apply(c.MoveTask(player.pid_of(op["task"]), op["cgroup"]))
    return Played(0)


def read(player: "Player", op: Op) -> Played:
    """A file is read: those of cgroups are compared."""
    if not is_of_cgroups(op["path"]):
        return Played(None)
    text = render.render(player.host, canonical(op["path"]))
    return Played(len(text), data=text)


# -- processes and mappings -------------------------------------------------------------------------------


def fork(player: "Player", op: Op) -> Played:
    """The child has the parent's mappings, under the same numbers."""
    pid = player.apply(c.ForkTask(player.pid_of(op["task"]))).result.pid
    player.pids[op["child"]] = pid
    for (task, number), map_id in list(player.maps.items()):
        if task == op["task"]:
            player.maps[op["child"], number] = map_id
    player.refused |= {(op["child"], number) for task, number in player.refused if task == op["task"]}
    return Played(pid)


def huge_read(player: "Player", op: Op) -> Played:
    """Pages are read."""
    return player.touch(op, read=True)


def madvise(player: "Player", op: Op) -> Played:
    """madvise of a mapping; other advice than two kinds says nothing to huge pages."""
    if op["advice"] not in ADVICE:
        return Played(None)
    player.apply(c.AdviseHugePages(player.pid_of(op["task"]), player.map_of(op), ADVICE[op["advice"]]))
    return Played(0)


# -- hugetlbfs --------------------------------------------------------------------------------------------


def mount(player: "Player", op: Op) -> Played:
    """Mount a hugetlbfs with size= and min_size= as mount takes them."""
    order = player.order_of(op["pagesize_kb"])
    maximum, minimum = (_pages(player, order, op.get(word)) for word in ("size", "min_size"))
    player.apply(c.MountHugetlbfs(op["path"], order, maximum, minimum))
    return Played(0)


def _pages(player: "Player", order: int, text: str | None) -> int | None:
    """A size in huge pages, rounded down; per cent of the pool.

    Source: fs/hugetlbfs/inode.c hugetlbfs_size_to_hpages() (5.14).
    """
    if text is None:
        return None
    if text.endswith("%"):
        return int(text[:-1]) * player.host.hstates[order].max_huge_pages // 100
    return memparse(text) // (PAGE_SIZE << order)


def umount(player: "Player", op: Op) -> Played:
    """Unmount it."""
    player.apply(c.Umount(op["path"]))
    return Played(0)


def huge_file(player: "Player", op: Op) -> Played:
    """fallocate, punch, truncate or unlink of a file; those that open it tell its size and blocks."""
    path, pid = op["path"], player.pid_of(op["task"])
    commands: dict[str, c.Command[Any]] = {
        "fallocate": c.FallocateFile(path, op["count"], op["from"], pid),
        "punch": c.PunchFile(path, op["count"], op["from"]),
        "truncate": c.TruncateFile(path, op["count"]),
        "unlink": c.UnlinkFile(path),
    }
    if op["op"] not in commands:
        raise NotModelledError(f"huge-file {op['op']}")
    played = Played(0)
    try:
        if op["op"] == "punch" and hugetlbfs.lookup(player.host, path) is None:
            player.apply(c.TruncateFile(path, 0))  # the agent opens what it changes with O_CREAT
        player.apply(commands[op["op"]])
    except MMError as error:
        played = Played(-1, error.errno)
    played.file = _stat(hugetlbfs.lookup(player.host, path))
    return played


def _stat(file: HugetlbFile | None) -> dict[str, int] | None:
    if file is None:
        return None
    return {"size": file.size * (PAGE_SIZE << file.order), "blocks": hugetlbfs.blocks(file)}


HANDLERS: dict[str, Callable[["Player", Op], Played]] = {
    "setup": setup,
    "read": read,
    "cgroup": cgroup,
    "cgroup-write": cgroup_write,
    "cgroup-read": cgroup_read,
    "cgroup-move": cgroup_move,
    "fork": fork,
    "huge-read": huge_read,
    "huge-madvise": madvise,
    "hugetlbfs-mount": mount,
    "umount": umount,
    "huge-file": huge_file,
}
