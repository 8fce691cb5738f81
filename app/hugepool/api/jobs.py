"""Jobs: long work that a request began and others look after."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response, StreamingResponse

from hugepool.access import Caller, Role
from hugepool.api import job_answers
from hugepool.api.access import caller_of
from hugepool.api.answers import document, rendered
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
from hugepool.api.job_answers import row, whole
from hugepool.api.preferences import Preferences, Wait, preferences
from hugepool.api.routing import BlockingRoute
from hugepool.jobs import Board, Job, JobState, NoSuchJob, Refusal

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


@router.get("", response_model=job_answers.JobList, responses=problems(422, 500))
def list_jobs(request: Request) -> Response:
    """The jobs of this process, oldest first: at work, waiting, or ended not long ago."""
    caller = caller_of(request)
    return document(
        job_answers.JobList([row(job) for job in board_of(request).all() if _may_see(job, caller)])
    )


@router.get("/{job}", response_model=job_answers.Job, responses=KNOWN)
async def get_job(request: Request, job: JobInPath, prefer: Wait = None) -> Response:
    """How far a job is, and its result once it is done; `Prefer: wait=10` waits up to 10 seconds for that.

    Jobs live in the memory of the process that began them: a restart forgets them.
    """
    found = find(request, job)
    headers = await _waited(found, prefer)
    return document(whole(found), headers=headers)


@router.get("/{job}/result", response_class=Response, responses=ENDED)
async def get_job_result(request: Request, job: JobInPath, prefer: Wait = None) -> Response:
    """What a job was for, as the request that began it would have answered; 409 while it is at work.

    `Prefer: wait=10` waits up to 10 seconds for its end.
    """
    found = find(request, job)
    headers = await _waited(found, prefer)
    answer = result_of(request, found)
    answer.headers.update(headers)
    return answer


async def _waited(job: Job, prefer: str | None) -> dict[str, str]:
    """The header that says how long the end was waited for at most; none where nobody wanted that."""
    seconds = preferences(prefer).wait_seconds
    if seconds is None:
        return {}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until_final(job)
    return Preferences(respond_async=False, wait_seconds=seconds).headers()


async def until_final(job: Job) -> None:
    """Until a job has ended; no thread waits."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        with suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(ended.set)

    job.when_final(end)
    await ended.wait()


def result_of(request: Request, job: Job) -> Response:
    """The answer of a job, as if there had been none."""
    if not job.final:
        done, total = job.progress()
        return problem(request, "EBUSY", f"the job is {job.state}: {done} of {total} are done")
    if job.state != JobState.DONE:
        return problem(request, "EIO", job.error or "the job was cancelled")
    if callable(job.about):
        answer: Response = job.about(request, job.result)
        return answer
    if isinstance(job.result, Refusal):
        return refusal(request, job.result.error, None)
    return document(job.result)


@router.delete("/{job}", response_model=job_answers.Job, responses=KNOWN)
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


def _message(event: str, data: job_answers.JobRow) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), rendered(data))
