"""Control groups, hugetlbfs mounts and files, one by one and all of a host."""

from dataclasses import dataclass

from hugepool.mm.commands.cgroups import cgroup_view
from hugepool.mm.commands.files import file_view, mount_view
from hugepool.mm.kernel import hugetlbfs
from hugepool.mm.machine.group_outcomes import Cgroup, HugetlbFile, HugetlbfsMount
from hugepool.mm.machine.state import Host


@dataclass(frozen=True, slots=True)
class Cgroups:
    """All cgroups of a host."""

    items: list[Cgroup]


@dataclass(frozen=True, slots=True)
class Mounts:
    """All hugetlbfs mounts of a host."""

    items: list[HugetlbfsMount]


@dataclass(frozen=True, slots=True)
class HugetlbFiles:
    """All files of huge pages of a host."""

    items: list[HugetlbFile]


def cgroups(machine: Host) -> Cgroups:
    """All cgroups by path, the root first."""
    return Cgroups([cgroup_view(machine, path) for path in sorted(machine.cgroups)])


def cgroup(machine: Host, path: str) -> Cgroup:
    """One cgroup.  Raises ENOENT."""
    return cgroup_view(machine, path)


def mounts(machine: Host) -> Mounts:
    """All mounts, the oldest first; a later one hides an older one at its path."""
    return Mounts([mount_view(machine, mount) for mount in machine.mounts])


def mount(machine: Host, path: str) -> HugetlbfsMount:
    """The mount at a path.  Raises ENOENT."""
    return mount_view(machine, hugetlbfs.find_mount(machine, path))


def files(machine: Host) -> HugetlbFiles:
    """All files and segments, the oldest first; those without a name as well."""
    return HugetlbFiles([file_view(machine, file) for file in machine.files.values()])


def file(machine: Host, path: str) -> HugetlbFile:
    """The file at a path.  Raises ENOENT."""
    return file_view(machine, hugetlbfs.find(machine, path))
