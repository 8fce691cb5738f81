"""Control groups (v2) with the hugetlb controller."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.groups import CgroupBody
from hugepool.mm.commands.commands import RemoveCgroup
from hugepool.mm.machine.group_outcomes import Cgroup, RemovedCgroup
from hugepool.mm.views import group_view
from hugepool.mm.views.group_view import Cgroups

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/cgroups", tags=["cgroups"])
PathInPath = Annotated[str, Path(description="A path below /sys/fs/cgroup.", examples=["pods/a"])]


@router.get("", response_model=Cgroups, responses=reading())
def list_cgroups(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All cgroups by path, the root first."""
    return read(request, host, group_view.cgroups)


@router.get("/{path:path}", response_model=Cgroup, responses=reading())
def get_cgroup(request: Request, host: HostInPath, path: PathInPath, _: IfNoneMatch = None) -> Response:
    """Limits, charges and tasks of one cgroup."""
    return read(request, host, lambda machine: group_view.cgroup(machine, path))


@router.put("/{path:path}", response_model=Cgroup, responses=changing(409))
def put_cgroup(
    request: Request,
    host: HostInPath,
    path: PathInPath,
    conditions: Changing,
    body: CgroupBody = examples.CGROUP,
) -> Response:
    """Set limits of a cgroup, in huge pages; it and those above are made where they are not there.

    A limit below what is charged is refused (EBUSY).  The same files are under `fs/sys/fs/cgroup/`.
    """
    return change(request, host, body.command(path), conditions, body)


@router.delete("/{path:path}", response_model=RemovedCgroup, responses=changing(409, body=False))
def remove_cgroup(request: Request, host: HostInPath, path: PathInPath, conditions: Changing) -> Response:
    """Remove a cgroup without tasks and cgroups in it; what is charged to it goes to the one above."""
    return change(request, host, RemoveCgroup(path), conditions)
