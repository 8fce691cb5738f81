"""Tasks: who uses the memory."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples, touching
from hugepool.api.answers import change, outcome, read, service_of
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath, Limit
from hugepool.api.long_work import LATER
from hugepool.api.paging import Cursor, ListPage, page, position
from hugepool.api.preferences import Prefer
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import TaskBody, TouchBody
from hugepool.forms.groups import MoveBody, UnmapBody, WriteBody
from hugepool.mm.commands.commands import ExitTask, ForkTask
from hugepool.mm.machine.task_outcomes import ExitedTask, StartedTask, Task, Touched, UnmappedPages
from hugepool.mm.views.task_view import task, tasks
from hugepool.service import Reply

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/tasks", tags=["tasks"])
PidInPath = Annotated[int, Path(description="Number of the process.", examples=[1000])]


@router.post(
    "",
    status_code=201,
    response_model=StartedTask,
    responses={**changing(507, status=201, example=examples.STARTED), **LATER},
)
def create_task(
    request: Request,
    host: HostInPath,
    conditions: Changing,
    body: TaskBody = examples.TASK,
    prefer: Prefer = None,
) -> Response:
    """Start a process that uses memory, all or nothing.

    mmap beyond the pool is refused with ENOMEM.  A fault on an exhausted pool is no refusal: the answer says
    `"signal": "SIGBUS"` and how many pages were touched.  A touch of more than 65,536 pages is a job.
    """
    render = partial(_started, host=host)
    return touching.change(request, host, body.command(), conditions.terms(request, body), prefer, render)


def _started(request: Request, reply: Reply, host: str) -> Response:
    if reply.error is not None or reply.result is None:
        return outcome(request, reply)
    return outcome(request, reply, 201, {"Location": f"/v1/hosts/{host}/tasks/{reply.data['pid']}"})


@router.get("", response_model=ListPage[Task], responses=reading())
def list_tasks(
    request: Request, host: HostInPath, limit: Limit = 100, cursor: Cursor = None, _: IfNoneMatch = None
) -> Response:
    """Processes in order of their pid."""
    after = position(cursor)
    return read(
        request,
        host,
        lambda machine: page(tasks(machine, after, limit + 1), limit, lambda row: row.pid),
    )


@router.get("/{pid}", response_model=Task, responses=reading())
def get_task(request: Request, host: HostInPath, pid: PidInPath, _: IfNoneMatch = None) -> Response:
    """One process."""
    return read(request, host, lambda machine: task(machine, pid))


@router.post("/{pid}/touch", response_model=Touched, responses={**changing(), **LATER})
def touch_huge_pages(
    request: Request,
    host: HostInPath,
    pid: PidInPath,
    conditions: Changing,
    body: TouchBody = examples.TOUCH,
    prefer: Prefer = None,
) -> Response:
    """Fault in the next untouched huge pages of a mapping; stops with `SIGBUS` when there are no more.

    More than 65,536 pages are a job.
    """
    return touching.change(request, host, body.command(pid), conditions.terms(request, body), prefer)


@router.post("/{pid}/write", response_model=Touched, responses={**changing(), **LATER})
def write_huge_pages(
    request: Request,
    host: HostInPath,
    pid: PidInPath,
    conditions: Changing,
    body: WriteBody = examples.WRITE,
    prefer: Prefer = None,
) -> Response:
    """Write pages of a mapping: one that is shared since a fork, or is a file's, is copied first."""
    return touching.change(request, host, body.command(pid), conditions.terms(request, body), prefer)


@router.post("/{pid}/read", response_model=Touched, responses={**changing(), **LATER})
def read_huge_pages(
    request: Request,
    host: HostInPath,
    pid: PidInPath,
    conditions: Changing,
    body: WriteBody = examples.WRITE,
    prefer: Prefer = None,
) -> Response:
    """Read pages of a mapping: nothing is copied."""
    command, terms = body.command(pid, read=True), conditions.terms(request, body)
    return touching.change(request, host, command, terms, prefer)


@router.post("/{pid}/unmap", response_model=UnmappedPages, responses=changing())
def unmap_huge_pages(
    request: Request, host: HostInPath, pid: PidInPath, conditions: Changing, body: UnmapBody = examples.UNMAP
) -> Response:
    """Unmap pages of a mapping, or all of it."""
    return change(request, host, body.command(pid), conditions, body)


@router.post(
    "/{pid}/fork",
    status_code=201,
    response_model=Task,
    responses=changing(status=201, body=False),
)
def fork_task(request: Request, host: HostInPath, pid: PidInPath, conditions: Changing) -> Response:
    """Fork a process: private huge pages are shared until one of both writes; no reservation is the child's."""
    reply = service_of(request).execute(host, ForkTask(pid), conditions.terms(request, None))
    return _started(request, reply, host)


@router.put("/{pid}/cgroup", response_model=Task, responses=changing(409))
def move_task(
    request: Request, host: HostInPath, pid: PidInPath, conditions: Changing, body: MoveBody = examples.MOVE
) -> Response:
    """Move a process to a cgroup; what is charged stays where it is."""
    return change(request, host, body.command(pid), conditions, body)


@router.delete("/{pid}", response_model=ExitedTask, responses=changing(body=False))
def exit_task(request: Request, host: HostInPath, pid: PidInPath, conditions: Changing) -> Response:
    """End a process: its memory is unmapped and freed; some frees may wait for the kernel's worker."""
    return change(request, host, ExitTask(pid), conditions)
