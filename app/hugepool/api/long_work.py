"""Requests that may take long: answered when they are done soon, else with the job that goes on."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import Response

from hugepool.api import job_schemas
from hugepool.api.answers import document, service_of
from hugepool.api.documentation import Responses, problems
from hugepool.api.jobs import board_of, result_of, row
from hugepool.jobs import NoSuchJob, Work

ASYNC = "respond-async"
Prefer = Annotated[
    str | None,
    Header(description="`respond-async`: answer with a job at once (RFC 7240).", examples=[ASYNC]),
]
LOCATION = {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}


def answered(*refusals: int) -> Responses:
    """The responses of such a request."""
    return {
        200: {"description": "The answer. Nothing is stored."},
        202: {
            "description": "Long work: a job that will have it.",
            "model": job_schemas.JobRow,
            "headers": LOCATION,
        },
        **problems(404, 413, 415, 422, 500, 503, *refusals),
    }


def prefers_job(prefer: str | None) -> bool:
    """Whether the caller wants a job rather than to wait."""
    return ASYNC in [part.partition(";")[0].strip().lower() for part in (prefer or "").split(",")]


def answer(
    request: Request,
    prefer: str | None,
    kind: str,
    work: Work,
    shared: Any,
    items: Sequence[Any],
    finish: Callable[[list[Any]], Any],
) -> Response:
    """Have work done as ``Board.submit`` has it, and answer with what came of it, or with 202 and its job."""
    board, at_once = board_of(request), prefers_job(prefer)
    job = board.submit(kind, work, shared, items, finish)
    if at_once or not job.wait(service_of(request).settings.what_if_wait_seconds):
        applied = {"Preference-Applied": ASYNC} if at_once else {}
        return document(row(job), HTTPStatus.ACCEPTED, {"Location": f"/v1/jobs/{job.id}", **applied})
    with suppress(NoSuchJob):  # somebody else has cancelled it
        board.delete(job.id)
    return result_of(request, job)
