"""Plans: questions of planners about a stored host, answered by trying on copies."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hugepool.api import examples, plan_schemas
from hugepool.api.answers import service_of
from hugepool.api.fields import HostInPath
from hugepool.api.long_work import Prefer, answer, answered
from hugepool.forms.fields import Body
from hugepool.forms.plans import ChurnBody, HeadroomBody, MaxPoolBody, OfflineBody, PlacementBody, SavingsBody
from hugepool.mm.machine.digest import fork
from hugepool.whatif.plans import PLANS, Question, finish, work

router = APIRouter(prefix="/v1/hosts/{host}/plans", tags=["plans"])
ASKED = answered()


def _planned(request: Request, host: str, prefer: str | None, word: str, body: Body) -> Response:
    question = Question(word, service_of(request).read(host, fork)[0], body)
    pieces = PLANS[word].pieces(question.host, body)
    return answer(request, prefer, word, work, question, pieces, partial(finish, question))


@router.post("/max-pool", response_model=plan_schemas.MaxPool, responses=ASKED)
def plan_max_pool(
    request: Request, host: HostInPath, body: MaxPoolBody = examples.MAX_POOL, prefer: Prefer = None
) -> Response:
    """The largest pool, for all nodes and for each alone, that leaves `keep` bytes of MemAvailable."""
    return _planned(request, host, prefer, "max-pool", body)


@router.post("/savings", response_model=plan_schemas.Savings, responses=answered(409))
def plan_savings(
    request: Request, host: HostInPath, body: SavingsBody = examples.SAVINGS, prefer: Prefer = None
) -> Response:
    """What freeing the vmemmap of `count` more pages gives: gross, page tables, net, and in which zones."""
    return _planned(request, host, prefer, "savings", body)


@router.post("/headroom", response_model=plan_schemas.Headroom, responses=answered(409))
def plan_headroom(
    request: Request, host: HostInPath, body: HeadroomBody = examples.HEADROOM, prefer: Prefer = None
) -> Response:
    """How much kernel memory must be left, above the watermarks, so that `count` pages can be given back."""
    return _planned(request, host, prefer, "headroom", body)


@router.post("/offline", response_model=plan_schemas.Offline, responses=ASKED)
def plan_offline(
    request: Request, host: HostInPath, body: OfflineBody = examples.OFFLINE, prefer: Prefer = None
) -> Response:
    """Which memory blocks can go offline: each alone, what stops the others, and a set that goes together."""
    return _planned(request, host, prefer, "offline", body)


@router.post("/placement", response_model=plan_schemas.Placement, responses=ASKED)
def plan_placement(
    request: Request, host: HostInPath, body: PlacementBody = examples.PLACEMENT, prefer: Prefer = None
) -> Response:
    """Whether a virtual machine finds its huge pages, now and when all that is mapped is touched; else what to do."""
    return _planned(request, host, prefer, "placement", body)


@router.post("/churn", response_model=plan_schemas.Churn, responses=ASKED)
def plan_churn(
    request: Request, host: HostInPath, body: ChurnBody = examples.CHURN, prefer: Prefer = None
) -> Response:
    """How many huge pages can still be formed after rounds of allocation and freeing, over several seeds."""
    return _planned(request, host, prefer, "churn", body)
