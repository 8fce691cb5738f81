"""What-if questions: steps on a throw-away copy of a host."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic_core import to_json

from app.api import examples, job_schemas, what_if_schemas
from app.api.answers import document, service_of
from app.api.documentation import Responses, problems
from app.api.jobs import board_of, result_of, row
from app.mm.host import fork
from app.whatif import variants
from app.whatif.run import run
from app.whatif.scenario import Scenario, check, json_schema

router = APIRouter(prefix="/v1/what-if", tags=["what-if"])
SHORT_STEPS = 100  # answered where the request is; more are for a process of their own
ASYNC = "respond-async"
Prefer = Annotated[
    str | None,
    Header(description="`respond-async`: answer with a job at once (RFC 7240).", examples=[ASYNC]),
]
LOCATION = {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}
ASKED: Responses = {
    200: {"description": "The answer. Nothing is stored."},
    202: {
        "description": "Long work: a job that will have it.",
        "model": job_schemas.JobRow,
        "headers": LOCATION,
    },
    **problems(404, 413, 415, 422, 500, 503),
}
SCHEMA: Responses = {200: {"content": {"application/schema+json": {"schema": {"type": "object"}}}}}


@router.post("", response_model=what_if_schemas.Answer | what_if_schemas.Table, responses=ASKED)
def ask_what_if(request: Request, body: Scenario = examples.WHAT_IF, prefer: Prefer = None) -> Response:
    """Run steps on a copy of a host and answer all of them; nothing is stored.

    A refused step is reported and the next one runs.  With `variants`, the answer is a table: a row for each.
    Work that takes long is answered with 202 and goes on as a job.
    """
    check(body)
    wanted = variants.expand(body)
    service, at_once = service_of(request), ASYNC in _preferences(prefer)
    hosts = {name: service.read(name, fork)[0] for name in variants.names(body, wanted)}
    if not (wanted or at_once or len(body.steps) > SHORT_STEPS):
        return document(run(body, hosts))
    board, question = board_of(request), variants.Question(dict(body.given), hosts)
    finish = variants.table if wanted else variants.one
    job = board.submit("what-if", variants.work, question, variants.items(wanted), finish)
    if at_once or not job.wait(service.settings.what_if_wait_seconds):
        applied = {"Preference-Applied": ASYNC} if at_once else {}
        return document(row(job), HTTPStatus.ACCEPTED, {"Location": f"/v1/jobs/{job.id}", **applied})
    board.delete(job.id)
    return result_of(request, job)


def _preferences(header: str | None) -> list[str]:
    return [part.partition(";")[0].strip().lower() for part in (header or "").split(",")]


@router.get("/scenario.schema.json", response_class=Response, responses=SCHEMA)
async def show_scenario_schema() -> Response:
    """The JSON Schema of a what-if question, for editors and other tools."""
    return Response(to_json(json_schema()), media_type="application/schema+json")
