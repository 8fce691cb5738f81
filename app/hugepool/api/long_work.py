"""Requests that may take long: answered when they are done soon, else with the job that goes on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from hugepool.api.access import caller_of
from hugepool.api.answers import document, service_of
from hugepool.api.documentation import Responses, problems
from hugepool.api.job_answers import JobRow, row
from hugepool.api.jobs import board_of, result_of
from hugepool.jobs import Job, NoSuchJob, Refusal, Task
from hugepool.mm.machine.errors import MMError
from hugepool.service import StoreFailure

ASYNC = "respond-async"
Prefer = Annotated[
    str | None,
    Header(description="`respond-async`: answer with a job at once (RFC 7240).", examples=[ASYNC]),
]
LOCATION = {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}
LATER: Responses = {
    202: {
        "description": "Long work: a job that will have it.",
        "model": JobRow,
        "headers": LOCATION,
    }
}


def answered(*refusals: int) -> Responses:
    """The responses of such a request."""
    return {
        200: {"description": "The answer. Nothing is stored."},
        **LATER,
        **problems(404, 413, 415, 422, 500, 503, *refusals),
    }


def prefers_job(prefer: str | None) -> bool:
    """Whether the caller wants a job rather than to wait."""
    return ASYNC in [part.partition(";")[0].strip().lower() for part in (prefer or "").split(",")]


def answer(
    request: Request, prefer: str | None, kind: str, make: Callable[[], Task], nr_items: int = 1
) -> Response:
    """Have a task done as ``Board.submit`` has it, and answer with what came of it, or with 202 and its job.

    What ``make`` refuses is what the job comes to.  Who goes away before the answer is there ends the job.
    """
    more = {"owner": caller_of(request).name, "nbytes": _body_bytes(request)}
    job = board_of(request).submit(kind, partial(_made, make), nr_items, **more)
    return accepted(job, prefer) or LateAnswer(request, job, abandoned=Job.cancel)


def _body_bytes(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else 0


def _made(make: Callable[[], Task]) -> Task:
    try:
        return make()
    except MMError as refused:
        error = refused.data()
    except StoreFailure as busy:
        error = {"errno": "EAGAIN", "detail": str(busy), "reason": None, "facts": {}}
    return Task(_nothing, None, (), lambda _: Refusal(error))


def _nothing(_shared: Any, _item: Any, _report: Any) -> None:
    """The work of a task without items."""


def accepted(job: Job, prefer: str | None) -> Response | None:
    """202 at once for a caller who prefers that."""
    return _accepted(job, {"Preference-Applied": ASYNC}) if prefers_job(prefer) else None


def _accepted(job: Job, headers: dict[str, str]) -> Response:
    return document(row(job), HTTPStatus.ACCEPTED, {"Location": f"/v1/jobs/{job.id}", **headers})


class LateAnswer(Response):
    """The answer of a job that ends soon, else 202 with the job.  It waits without a thread.

    ``abandoned`` is called with the job when the client goes away before.
    """

    def __init__(self, request: Request, job: Job, abandoned: Callable[[Job], None] | None = None) -> None:
        super().__init__()
        self._request, self._job, self._abandoned = request, job, abandoned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and answer."""
        response = await self._response(receive)
        if response is not None:
            await response(scope, receive, send)

    async def _response(self, receive: Receive) -> Response | None:
        """What to answer; None: nobody is there any more."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(ended.set)

        self._job.when_final(end)
        waiting = asyncio.create_task(ended.wait()), asyncio.create_task(_gone(receive))
        seconds = service_of(self._request).settings.what_if_wait_seconds
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self._job.final:
            return self._ended()
        if not waiting[1].done():
            return _accepted(self._job, {})
        if self._abandoned is not None:
            self._abandoned(self._job)
        return None

    def _ended(self) -> Response:
        with suppress(NoSuchJob):  # somebody else has cancelled it
            board_of(self._request).delete(self._job.id)
        return result_of(self._request, self._job)


async def _gone(receive: Receive) -> None:
    """Until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
