"""The folders of cgroup v2, with one controller: hugetlb.

Source: kernel/cgroup/cgroup.c cgroup_mkdir(), cgroup_destroy_locked(), cgroup_subtree_control_write(),
cgroup_migrate_vet_dst() (5.14).
"""

from hugepool.mm.kernel import hugetlb_cgroup
from hugepool.mm.machine.cgroups import ROOT, ROOT_PATH, Cgroup, HugetlbCgroup
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host, Task

MAX_PATH = 400
MAX_DEPTH = 32
MAX_NAME = 255


def find(host: Host, path: str) -> Cgroup:
    """The cgroup of a path.  Raises ENOENT."""
    if path not in host.cgroups:
        raise NotFound(f"no cgroup {path[:80]!r} on this host", reason=Reason.NO_SUCH_CGROUP)
    return host.cgroups[path]


def effective(host: Host, path: str) -> int:
    """The controller state that tasks of a cgroup are charged to: its own, or that of the nearest one above."""
    while path != ROOT_PATH:
        number = host.cgroups[path].cgroup_id
        if number != ROOT:
            return number
        path = parent_of(path)
    return ROOT


def parent_of(path: str) -> str:
    """The path of the folder around a cgroup."""
    return path.rpartition("/")[0]


def children(host: Host, path: str) -> list[Cgroup]:
    """The cgroups in a cgroup, by name."""
    return [
        host.cgroups[name] for name in sorted(host.cgroups) if name != ROOT_PATH and parent_of(name) == path
    ]


def tasks_in(host: Host, path: str) -> list[Task]:
    """The tasks of a cgroup."""
    return [task for task in host.tasks.values() if task.cgroup == path]


def hugetlb(host: Host, path: str) -> HugetlbCgroup:
    """What the hugetlb controller keeps for a cgroup.  Raises ENOENT where it is off, as the files are not there."""
    group = find(host, path)
    if group.cgroup_id == ROOT:
        raise NotFound(f"the hugetlb controller is off for cgroup {path!r}", reason=Reason.CONTROLLER_OFF)
    return host.hugetlb_cgroups[group.cgroup_id]


def make(host: Host, path: str) -> Cgroup:
    """mkdir.  Raises EINVAL for a bad name, ENOENT without a parent, EEXIST."""
    check_path(path)
    if path in host.cgroups:
        raise MMError("EEXIST", f"cgroup {path!r} is there already", reason=Reason.CGROUP_EXISTS)
    above = find(host, parent_of(path))
    group = host.cgroups[path] = Cgroup(path)
    if above.subtree_control:
        group.cgroup_id = hugetlb_cgroup.css_online(host, effective(host, above.path), path)
    return group


def check_path(path: str) -> None:
    """Refuse what is no path of cgroups.  Raises EINVAL."""
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names) or not path.isprintable():
        raise BadInput("must be names with / between them: no empty name, no . and ..", where="path")
    if len(path) > MAX_PATH or len(names) > MAX_DEPTH or any(len(name) > MAX_NAME for name in names):
        raise BadInput(
            f"must have at most {MAX_PATH} characters, {MAX_DEPTH} levels and names of {MAX_NAME} characters",
            where="path",
        )
    if any(name.startswith(("cgroup.", "hugetlb.")) for name in names):
        raise MMError("EEXIST", "a file of cgroups has this name", reason=Reason.CGROUP_EXISTS)


def remove(host: Host, path: str) -> None:
    """rmdir.  Raises EBUSY with tasks or cgroups in it, or for the root; nothing changes."""
    group = find(host, path)
    if path == ROOT_PATH:
        raise MMError("EBUSY", "the root cgroup cannot be removed", reason=Reason.CGROUP_POPULATED)
    tasks, below = tasks_in(host, path), children(host, path)
    if tasks or below:
        what = f"{len(tasks)} tasks" if tasks else f"{len(below)} cgroups"
        raise MMError("EBUSY", f"cgroup {path!r} has {what} in it", reason=Reason.CGROUP_POPULATED,
                      pids=[task.pid for task in tasks])  # fmt: skip
    del host.cgroups[path]
    if group.cgroup_id != ROOT:
        hugetlb_cgroup.css_offline(host, group.cgroup_id)


def available(host: Host, path: str) -> bool:
    """Whether the controller can be switched on below a cgroup: ``cgroup.controllers`` lists it."""
    return path == ROOT_PATH or host.cgroups[path].cgroup_id != ROOT


def enable(host: Host, path: str) -> None:
    """``+hugetlb`` to cgroup.subtree_control.

    Raises:
        MMError: ENOENT the parent has it off; EBUSY tasks are in the cgroup (no internal processes).
    """
    group = find(host, path)
    if group.subtree_control:
        return
    if not available(host, path):
        raise MMError(
            "ENOENT", f"cgroup.controllers of {path!r} has no hugetlb", reason=Reason.CONTROLLER_OFF
        )
    if path != ROOT_PATH and tasks_in(host, path):
        raise MMError("EBUSY", f"cgroup {path!r} has tasks in it: it cannot distribute a resource",
                      reason=Reason.CGROUP_POPULATED, pids=[t.pid for t in tasks_in(host, path)])  # fmt: skip
    group.subtree_control = True
    for child in children(host, path):
        child.cgroup_id = hugetlb_cgroup.css_online(host, effective(host, path), child.path)


def disable(host: Host, path: str) -> None:
    """``-hugetlb`` to cgroup.subtree_control.  Raises EBUSY while a cgroup in it passes the controller on."""
    group = find(host, path)
    if not group.subtree_control:
        return
    passing = [child.path for child in children(host, path) if child.subtree_control]
    if passing:
        raise MMError("EBUSY", f"cgroup {passing[0]!r} has the controller on for what is in it",
                      reason=Reason.CGROUP_POPULATED)  # fmt: skip
    group.subtree_control = False
    for child in children(host, path):
        number, child.cgroup_id = child.cgroup_id, ROOT
        hugetlb_cgroup.css_offline(host, number)


def attach(host: Host, task: Task, path: str) -> None:
    """Move a task.  Its pages and reservations stay charged where they are.

    Raises EBUSY for a cgroup that distributes the controller to others, but for the root.
    """
    group = find(host, path)
    if path != ROOT_PATH and group.subtree_control:
        raise MMError("EBUSY", f"cgroup {path!r} has the controller on for what is in it: it takes no tasks",
                      reason=Reason.CGROUP_INTERNAL)  # fmt: skip
    task.cgroup = path
