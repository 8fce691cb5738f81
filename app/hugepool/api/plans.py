"""Plans: questions of planners about a stored host, answered by trying on copies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import service_of
from hugepool.api.fields import HostInPath
from hugepool.api.long_work import answer, answered
from hugepool.api.preferences import Prefer
from hugepool.api.routing import BlockingRoute
from hugepool.jobs import Task
from hugepool.mm.machine.digest import fork
from hugepool.whatif.plans import PLANS, Question, finish, work

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/plans", tags=["plans"])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the interface says of a plan.

    Attributes:
        refused: statuses with which the plan refuses a question that makes no sense on the host.
    """

    example: Any
    description: str
    refused: tuple[int, ...] = ()


ASKED = {
    "max-pool": _Asked(
        examples.MAX_POOL,
        "The largest pool, for all nodes and for each alone, that leaves `keep` bytes of MemAvailable.",
    ),
    "savings": _Asked(
        examples.SAVINGS,
        "What freeing the vmemmap of `count` more pages gives: gross, page tables, net, and in which zones.",
        (409,),
    ),
    "headroom": _Asked(
        examples.HEADROOM,
        "How much kernel memory must be left, above the watermarks, so that `count` pages can be given back.",
        (409,),
    ),
    "offline": _Asked(
        examples.OFFLINE,
        "Which memory blocks can go offline: each alone, what stops the others, and a set that goes together.",
    ),
    "placement": _Asked(
        examples.PLACEMENT,
        "Whether a virtual machine finds its huge pages, now and when all that is mapped is touched; else what to do.",
    ),
    "churn": _Asked(
        examples.CHURN,
        "How many huge pages can still be formed after rounds of allocation and freeing, over several seeds.",
    ),
}


def _endpoint(word: str, asked: _Asked) -> Callable[..., Response]:
    def plan(
        request: Request, host: HostInPath, body: Any = asked.example, prefer: Prefer = None
    ) -> Response:
        service = service_of(request)
        service.revision(host)

        def task() -> Task:
            question = Question(word, service.read(host, fork)[0], body)
            pieces = PLANS[word].pieces(question.host, body)
            return Task(work, question, pieces, partial(finish, question))

        return answer(request, prefer, word, task)

    plan.__name__ = f"plan_{word.replace('-', '_')}"  # the operation's id
    plan.__annotations__["body"] = PLANS[word].body
    return plan


for _word in PLANS:  # a plan without a row above ends the import
    _asked = ASKED[_word]
    router.add_api_route(
        f"/{_word}",
        _endpoint(_word, _asked),
        methods=["POST"],
        response_model=PLANS[_word].answer,
        responses=answered(*_asked.refused),
        description=_asked.description,
    )
