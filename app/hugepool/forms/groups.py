"""Request bodies about cgroups, hugetlbfs and forked tasks, and the commands that they stand for."""

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from hugepool.forms.bodies import MAX_COUNT, CgroupPath, HugeSize
from hugepool.forms.fields import Body, Whole, refuse
from hugepool.mm.commands import commands
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import order_of

SEGMENT = re.compile(r"SYSV[0-9a-f]{8}")
Pages = Annotated[Whole, Field(ge=0, le=1 << 42)]
Place = Annotated[Whole, Field(ge=0, lt=MAX_COUNT, description="The first huge page, counted from 0.")]
Some = Annotated[Whole, Field(ge=1, le=MAX_COUNT, description="How many huge pages.")]
MapNumber = Annotated[Whole, Field(ge=0, le=2**31, description="Number of the mapping within the task.")]
AbsolutePath = Annotated[
    str, Field(min_length=2, max_length=4095, pattern=r"^/[!-~ ]+$", examples=["/dev/hugepages"])
]


def order_of_size(size: str) -> int:
    """The order of a huge page size that a form allows."""
    return order_of(size) or 0


# -- cgroups ---------------------------------------------------------------------------------------------


class LimitsBody(Body):
    """Limits of one huge page size, in huge pages; what is left out stays, null is no limit."""

    max: Pages | None = None
    rsvd_max: Pages | None = None


class CgroupBody(Body):
    """Limits of a cgroup; it is made where it is not there."""

    hugetlb: Annotated[
        dict[HugeSize, LimitsBody],
        Field(max_length=2, examples=[{"2048kB": {"max": 10, "rsvd_max": None}}]),
    ] = {}  # noqa: RUF012 - pydantic copies it

    def command(self, path: str) -> commands.PutCgroup:
        """The command that it stands for."""
        kinds = (("max", "pages"), ("rsvd_max", "reservations"))
        limits = [
            (order_of_size(size), kind, getattr(row, name))
            for size, row in self.hugetlb.items()
            for name, kind in kinds
            if name in row.model_fields_set
        ]
        return commands.PutCgroup(path, tuple(limits))


class MoveBody(Body):
    """The cgroup that a task goes to; what is charged stays where it is."""

    cgroup: CgroupPath

    def command(self, pid: int) -> commands.MoveTask:
        """The command that it stands for."""
        return commands.MoveTask(pid, self.cgroup)


# -- hugetlbfs -------------------------------------------------------------------------------------------


class MountBody(Body):
    """A hugetlbfs mount; limits in huge pages."""

    path: AbsolutePath
    size: HugeSize = "2048kB"
    max: Annotated[Pages | None, Field(description="`size=`: the most it may have.")] = None
    min: Annotated[Pages | None, Field(description="`min_size=`: reserved for it in the pool.")] = None

    def command(self) -> commands.MountHugetlbfs:
        """The command that it stands for."""
        return commands.MountHugetlbfs(self.path, order_of_size(self.size), self.max, self.min)


class _PartBody(Body):
    from_: Annotated[Place, Field(alias="from")] = 0
    count: Some


class FallocateBody(_PartBody):
    """Fill pages of a file; it is made where it is not there."""

    op: Literal["fallocate"]
    pid: Annotated[Whole | None, Field(ge=0, le=2**31, description="Who does it, and pays.")] = None

    def command(self, path: str) -> commands.FallocateFile:
        """The command that it stands for."""
        return commands.FallocateFile(path, self.count, self.from_, self.pid)


class PunchBody(_PartBody):
    """Free pages of a file."""

    op: Literal["punch"]

    def command(self, path: str) -> commands.PunchFile:
        """The command that it stands for."""
        return commands.PunchFile(path, self.count, self.from_)


class TruncateBody(Body):
    """Set a file's length in huge pages; it is made where it is not there."""

    op: Literal["truncate"]
    count: Annotated[Whole, Field(ge=0, le=MAX_COUNT)]

    def command(self, path: str) -> commands.TruncateFile:
        """The command that it stands for."""
        return commands.TruncateFile(path, self.count)


class UnlinkBody(Body):
    """Remove a file, or a SysV segment: its pages go with the last mapping."""

    op: Literal["unlink"]

    def command(self, path: str) -> commands.UnlinkFile:
        """The command that it stands for."""
        return commands.UnlinkFile(path)


class ShmgetBody(Body):
    """Make a SysV segment, `SYSV` and eight hexadecimal digits of its key."""

    op: Literal["shmget"]
    size: HugeSize = "2048kB"
    count: Some
    noreserve: Annotated[bool, Field(strict=True)] = False
    pid: Annotated[Whole | None, Field(ge=0, le=2**31, description="Who does it, and pays.")] = None
    groups: Annotated[
        list[Annotated[Whole, Field(ge=0, lt=2**31)]] | None,
        Field(max_length=100, description="Groups of a process without CAP_IPC_LOCK; null: it has that."),
    ] = None

    def command(self, path: str) -> commands.MakeSegment:
        """The command that it stands for.  Raises EINVAL for a name that no segment has."""
        if not SEGMENT.fullmatch(path):
            raise BadInput("shmget makes segments: SYSV and eight hexadecimal digits", where="path")
        groups = None if self.groups is None else tuple(self.groups)
        order = order_of_size(self.size)
        return commands.MakeSegment(
            int(path.removeprefix("SYSV"), 16), order, self.count, self.noreserve, self.pid, groups
        )


FileBody = FallocateBody | PunchBody | TruncateBody | UnlinkBody | ShmgetBody


# -- mappings --------------------------------------------------------------------------------------------


class WriteBody(_PartBody):
    """Pages of a mapping to write or read, one after the other."""

    map: MapNumber = 0

    def command(self, pid: int, *, read: bool = False) -> commands.TouchHugePages:
        """The command that it stands for."""
        return commands.TouchHugePages(pid, self.map, self.count, self.from_, read)


class UnmapBody(Body):
    """Pages of a mapping to unmap; all without `count`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["count"], "properties": {"count": {"type": "integer"}}},
                {"properties": {"from": {"const": 0}}},
            ]
        }
    )

    map: MapNumber = 0
    from_: Annotated[Place, Field(alias="from")] = 0
    count: Some | None = None

    @model_validator(mode="after")
    def _whole(self) -> "UnmapBody":
        if self.count is None and self.from_:
            raise refuse("range", "needs count with from")
        return self

    def command(self, pid: int) -> commands.UnmapHugePages:
        """The command that it stands for."""
        return commands.UnmapHugePages(pid, self.map, self.from_, self.count)
