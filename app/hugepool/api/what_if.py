"""What-if questions: steps on a throw-away copy of a host."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic_core import to_json

from hugepool.api import examples
from hugepool.api.answers import service_of
from hugepool.api.documentation import Responses
from hugepool.api.long_work import answer, answered
from hugepool.api.preferences import Prefer
from hugepool.api.routing import BlockingRoute
from hugepool.jobs import Task
from hugepool.mm.machine.digest import fork
from hugepool.whatif import variants
from hugepool.whatif.run import Answer
from hugepool.whatif.scenario import Scenario, check, json_schema

router = APIRouter(route_class=BlockingRoute, prefix="/v1/what-if", tags=["what-if"])
ASKED = answered()
SCHEMA: Responses = {200: {"content": {"application/schema+json": {"schema": {"type": "object"}}}}}


@router.post("", response_model=Answer | variants.Table, responses=ASKED)
def ask_what_if(request: Request, body: Scenario = examples.WHAT_IF, prefer: Prefer = None) -> Response:
    """Run steps on a copy of a host and answer all of them; nothing is stored.

    A refused step is reported and the next one runs.  `ok` is false when one was refused or fell short that neither
    expects that nor says `may_fail`.  With `variants`, the answer is a table: a row for each; one
    that is malformed refuses the question when its turn comes.  Work that takes long is answered with 202 and goes
    on as a job; it sees the host as it is when the job begins.
    """
    check(body)
    wanted = variants.combinations(body)
    service, names = service_of(request), variants.names(body, wanted)
    for name in names:
        service.revision(name)
    items = variants.items(wanted)

    def task() -> Task:
        question = variants.Question(dict(body.given), {name: service.read(name, fork)[0] for name in names})
        finish = variants.table if wanted else variants.one
        return Task(variants.work, question, items, finish, variants.is_refusal)

    return answer(request, prefer, "what-if", task, len(items))


@router.get("/scenario.schema.json", response_class=Response, responses=SCHEMA)
async def show_scenario_schema() -> Response:
    """The JSON Schema of a what-if question, for editors and other tools."""
    return Response(to_json(json_schema()), media_type="application/schema+json")
