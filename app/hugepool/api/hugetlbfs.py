"""hugetlbfs: mounts, files, SysV segments."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from hugepool.api import examples, touching
from hugepool.api.answers import change, create, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.long_work import LATER
from hugepool.api.preferences import Prefer
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.groups import SEGMENT, FileBody, MountBody
from hugepool.mm.commands.commands import Umount
from hugepool.mm.machine.group_outcomes import (
    ChangedFile,
    HugetlbFile,
    HugetlbfsMount,
    MadeSegment,
    MountedHugetlbfs,
    UnlinkedFile,
    Unmounted,
)
from hugepool.mm.views import group_view
from hugepool.mm.views.group_view import HugetlbFiles, Mounts

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}", tags=["hugetlbfs"])
MountInPath = Annotated[
    str, Path(description="Where it is mounted, without the leading /.", examples=["mnt/huge"])
]
FileInPath = Annotated[
    str,
    Path(
        description="A file's path without the leading /, or the name of a SysV segment.",
        examples=["dev/hugepages/vm1", "SYSV0000002a"],
    ),
]
WithFiles = Annotated[bool, Query(description="Also when files are there: they go, as with umount(8).")]


@router.post("/mounts", status_code=201, response_model=MountedHugetlbfs, responses=changing(507, status=201))
def create_mount(
    request: Request, host: HostInPath, conditions: Changing, body: MountBody = examples.MOUNT
) -> Response:
    """Mount a hugetlbfs.  `min` is reserved in the pool at once; a mount at the same path hides the older one."""
    place = f"mounts{body.path}"
    return create(request, host, body.command(), conditions, body, lambda _: place)


@router.get("/mounts", response_model=Mounts, responses=reading())
def list_mounts(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All mounts, the oldest first."""
    return read(request, host, group_view.mounts)


@router.get("/mounts/{path:path}", response_model=HugetlbfsMount, responses=reading())
def get_mount(request: Request, host: HostInPath, path: MountInPath, _: IfNoneMatch = None) -> Response:
    """One mount."""
    return read(request, host, lambda machine: group_view.mount(machine, "/" + path.strip("/")))


@router.delete("/mounts/{path:path}", response_model=Unmounted, responses=changing(409, body=False))
def delete_mount(
    request: Request, host: HostInPath, path: MountInPath, conditions: Changing, with_files: WithFiles = False
) -> Response:
    """Unmount a hugetlbfs: 409 while files are there."""
    return change(request, host, Umount("/" + path.strip("/"), empty=not with_files), conditions)


@router.get("/files", response_model=HugetlbFiles, responses=reading())
def list_files(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All files and segments of huge pages; those without a name as well."""
    return read(request, host, group_view.files)


@router.get("/files/{path:path}", response_model=HugetlbFile, responses=reading())
def get_file(request: Request, host: HostInPath, path: FileInPath, _: IfNoneMatch = None) -> Response:
    """One file."""
    return read(request, host, lambda machine: group_view.file(machine, _name(path)))


@router.post(
    "/files/{path:path}",
    response_model=ChangedFile | UnlinkedFile | MadeSegment,
    responses={**changing(403, 409, 507), **LATER},
)
def change_file(
    request: Request,
    host: HostInPath,
    path: FileInPath,
    conditions: Changing,
    body: FileBody = examples.FILE,
    prefer: Prefer = None,
) -> Response:
    """Allocate, punch, truncate or unlink a file; make a SysV segment.

    `fallocate` beyond the pool, the mount or a cgroup is refused with ENOSPC; what was filled before stays.
    """
    command, terms = body.command(_name(path)), conditions.terms(request, body)
    return touching.change(request, host, command, terms, prefer)


def _name(path: str) -> str:
    """What a path in an address stands for."""
    return path if SEGMENT.fullmatch(path) else "/" + path.strip("/")
