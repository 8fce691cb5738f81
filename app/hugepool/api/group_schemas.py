"""What answers look like: cgroups, hugetlbfs mounts and files."""

from dataclasses import dataclass

from pydantic import BaseModel

from hugepool.api.schemas import VmemmapDelta
from hugepool.mm.machine.group_outcomes import Cgroup, HugetlbFile, HugetlbfsMount


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


class RemovedCgroup(BaseModel):
    """A cgroup that is gone."""

    path: str


class Unmounted(BaseModel):
    """A mount that is gone, and huge pages of its files that were freed."""

    path: str
    files: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta


class ChangedFile(BaseModel):
    """A file after a change; what does not apply is left out."""

    path: str | None
    size: str | None = None
    count: int | None = None
    pages: int | None = None
    reserved: int | None = None
    blocks: int | None = None
    segment: bool | None = None
    pids: list[int] | None = None
    allocated: int | None = None
    freed: int | None = None
    mapped: bool | None = None
    queued: int | None = None
    vmemmap: VmemmapDelta


class UnmappedPages(BaseModel):
    """What munmap did, in huge pages."""

    pid: int
    map: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
