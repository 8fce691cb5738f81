"""Jobs: long work that a request began and others look after."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response, StreamingResponse
from pydantic_core import to_json

from hugepool.access import Caller, Role
from hugepool.api import job_schemas
from hugepool.api.access import caller_of
from hugepool.api.answers import document
from hugepool.api.documentation import Responses, problems
from hugepool.api.errors import problem, refusal
from hugepool.api.event_stream import (
    HEARTBEAT,
    HEARTBEAT_SECONDS,
    HELLO,
    WAIT_SECONDS,
    EventStream,
    Streams,
    enter,
)
from hugepool.api.routing import BlockingRoute
from hugepool.jobs import Board, Job, NoSuchJob, State

router = APIRouter(route_class=BlockingRoute, prefix="/v1/jobs", tags=["jobs"])
JobInPath = Annotated[
    str, Path(description="Number of the job.", pattern="^[0-9a-z-]{1,40}$", examples=["9f86d081884c7d65"])
]
KNOWN: Responses = problems(404, 422, 500)
ENDED: Responses = {
    200: {
        "description": "What the request that began the job would have answered.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    201: {
        "description": "The same of a request that makes something.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    **problems(404, 409, 422, 500, 507),
}
STREAM: Responses = {
    200: {"description": "Progress as it is made.", "content": {"text/event-stream": {}}},
    **problems(404, 422, 500, 503),
}


def board_of(request: Request) -> Board:
    """The jobs of the application that got the request."""
    board: Board = request.app.state.jobs
    return board


def find(request: Request, job_id: str) -> Job:
    """A job that the caller may see: his own, or any for an admin.  Raises NoSuchJob."""
    job, caller = board_of(request).get(job_id), caller_of(request)
    if not _may_see(job, caller):
        raise NoSuchJob(job_id)
    return job


def _may_see(job: Job, caller: Caller) -> bool:
    return caller.role == Role.ADMIN or job.owner in {None, caller.name}


def row(job: Job) -> dict[str, Any]:
    """A job without its result."""
    done, total = job.progress()
    return {
        "id": job.id,
        "kind": job.kind,
        "state": str(job.state),
        "done": done,
        "total": total,
        "created_at": _time(job.created),
        "ended_at": None if job.ended is None else _time(job.ended),
    }


def whole(job: Job) -> dict[str, Any]:
    """A job with its result."""
    result = getattr(job.result, "result", job.result)  # of a long change: what its answer has
    return {**row(job), "result": result, "error": job.error}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@router.get("", response_model=job_schemas.JobList, responses=problems(422, 500))
def list_jobs(request: Request) -> Response:
    """The jobs of this process, oldest first: at work, waiting, or ended not long ago."""
    caller = caller_of(request)
    return document({"items": [row(job) for job in board_of(request).all() if _may_see(job, caller)]})


@router.get("/{job}", response_model=job_schemas.Job, responses=KNOWN)
def get_job(request: Request, job: JobInPath) -> Response:
    """How far a job is, and its result once it is done.

    Jobs live in the memory of the process that began them: a restart forgets them.
    """
    return document(whole(find(request, job)))


@router.get("/{job}/result", response_class=Response, responses=ENDED)
def get_job_result(request: Request, job: JobInPath) -> Response:
    """What a job was for, as the request that began it would have answered; 409 while it is at work."""
    return result_of(request, find(request, job))


def result_of(request: Request, job: Job) -> Response:
    """The answer of a job, as if there had been none."""
    if not job.final:
        done, total = job.progress()
        return problem(request, "EBUSY", f"the job is {job.state}: {done} of {total} are done")
    if job.state != State.DONE:
        return problem(request, "EIO", job.error or "the job was cancelled")
    if callable(job.about):
        answer: Response = job.about(request, job.result)
        return answer
    error = job.result.get("error") if isinstance(job.result, dict) else None
    return document(job.result) if error is None else refusal(request, error, None)


@router.delete("/{job}", response_model=job_schemas.Job, responses=KNOWN)
def delete_job(request: Request, job: JobInPath) -> Response:
    """Cancel a job if it has not ended, and forget it.  When the answer leaves, nothing works on it any more."""
    return document(whole(board_of(request).delete(find(request, job).id)))


@router.get("/{job}/events", response_class=StreamingResponse, responses=STREAM)
async def stream_job(request: Request, job: JobInPath) -> Response:
    """Progress as server-sent events: `progress`, and last of all `done`, `failed` or `cancelled`."""
    found = find(request, job)
    streams = enter(request.app)
    return EventStream(_tell(found, streams), streams)


async def _tell(job: Job, streams: Streams) -> AsyncIterator[bytes]:
    """One event for all news since the last, so none pile up."""
    yield HELLO
    known, sent = -1, monotonic()
    while not streams.stopping():
        news = job.news
        if news != known:
            final = job.final
            yield _message(str(job.state) if final else "progress", row(job))
            if final:
                return
            known, sent = news, monotonic()
        elif monotonic() - sent >= HEARTBEAT_SECONDS:
            yield HEARTBEAT
            sent = monotonic()
        await run_sync(job.wait_news, known, WAIT_SECONDS, limiter=streams.threads, abandon_on_cancel=True)


def _message(event: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), to_json(data))
