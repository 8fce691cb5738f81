"""Requests that may take long: answered when they are done soon, else with the job that goes on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from hugepool.api import media
from hugepool.api.access import caller_of
from hugepool.api.answers import document, service_of
from hugepool.api.documentation import Responses, problems
from hugepool.api.job_answers import JobRow, row
from hugepool.api.jobs import board_of, result_of, until_final
from hugepool.api.preferences import Preferences, preferences
from hugepool.jobs import Job, NoSuchJob, Refusal, Task
from hugepool.mm.machine.errors import MMError
from hugepool.service import StoreFailure

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


def answer(
    request: Request, prefer: str | None, kind: str, make: Callable[[], Task], nr_items: int = 1
) -> Response:
    """Have a task done as ``Board.submit`` has it, and answer with what came of it, or with 202 and its job.

    What ``make`` refuses is what the job comes to.  Who goes away before the answer is there ends the job.
    """
    more = {"owner": caller_of(request).name, "nbytes": _body_bytes(request)}
    job = board_of(request).submit(kind, partial(_made, make), nr_items, **more)
    return late(request, job, prefer, abandoned=Job.cancel)


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


def late(
    request: Request, job: Job, prefer: str | None, abandoned: Callable[[Job], None] | None = None
) -> Response:
    """The answer of a job if it ends soon, else 202 with the job; at once for a caller who prefers that."""
    wanted = preferences(prefer)
    return _accepted(job, wanted) if wanted.at_once else LateAnswer(request, job, wanted, abandoned)


def _accepted(job: Job, wanted: Preferences) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}", **wanted.headers()}
    return document(row(job), HTTPStatus.ACCEPTED, headers)


class LateAnswer(Response):
    """The answer of a job that ends soon, else 202 with the job.  It waits without a thread.

    ``abandoned`` is called with the job when the client goes away before.
    """

    def __init__(
        self, request: Request, job: Job, wanted: Preferences, abandoned: Callable[[Job], None] | None
    ) -> None:
        super().__init__()
        self._request, self._job, self._wanted, self._abandoned = request, job, wanted, abandoned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and answer."""
        response = await self._response(receive)
        if response is not None:
            await response(scope, receive, send)

    async def _response(self, receive: Receive) -> Response | None:
        """What to answer; None: nobody is there any more."""
        waiting = asyncio.create_task(until_final(self._job)), asyncio.create_task(_gone(receive))
        seconds: float | None = self._wanted.wait_seconds
        if seconds is None:
            seconds = service_of(self._request).settings.what_if_wait_seconds
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self._job.final:
            return self._ended()
        if not waiting[1].done():
            return _accepted(self._job, self._wanted)
        if self._abandoned is not None:
            self._abandoned(self._job)
        return None

    def _ended(self) -> Response:
        with suppress(NoSuchJob):  # somebody else has cancelled it
            board_of(self._request).delete(self._job.id)
        found = media.as_wanted(self._request, result_of(self._request, self._job))
        if self._wanted.wait_seconds is not None:
            found.headers.update(self._wanted.headers())
        return found


async def _gone(receive: Receive) -> None:
    """Until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
