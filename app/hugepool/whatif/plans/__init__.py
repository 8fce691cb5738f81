"""Plans: questions of planners, each answered by running the engine on copies.  ``PLANS`` has a row for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hugepool.forms.fields import Body
from hugepool.forms.plans import ChurnBody, HeadroomBody, MaxPoolBody, OfflineBody, PlacementBody, SavingsBody
from hugepool.jobs import Refusal
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Host
from hugepool.whatif.plans import churn, offline
from hugepool.whatif.plans.churn import Churn
from hugepool.whatif.plans.headroom import Headroom, headroom
from hugepool.whatif.plans.max_pool import MaxPool, max_pool
from hugepool.whatif.plans.offline import Offline
from hugepool.whatif.plans.placement import Placement, placement
from hugepool.whatif.plans.savings import Savings, savings
from hugepool.whatif.run import Progress

Answer = MaxPool | Savings | Headroom | Offline | Placement | Churn


@dataclass(frozen=True, slots=True)
class Plan:
    """A row: how the work is cut into pieces, done, and put together.

    Attributes:
        body: the class of its question.  answer: that of its answer.
        pieces: what can be done side by side; raises MMError when the question makes no sense on the host.
        work: does one piece; raises MMError.
        combined: makes the answer of the pieces' results, in their order.
    """

    body: type[Body]
    answer: type[Answer]
    pieces: Callable[[Host, Any], Sequence[Any]]
    work: Callable[[Host, Any, Any, Progress], Any]
    combined: Callable[[Host, Any, Sequence[Any]], Answer]


def _whole(body: type[Body], answer: type[Answer], compute: Callable[[Host, Any, Progress], Answer]) -> Plan:
    """A plan that is one piece."""
    return Plan(
        body,
        answer,
        lambda _host, _body: [None],
        lambda host, body, _piece, progress: compute(host, body, progress),
        lambda _host, _body, results: results[0],
    )


PLANS: dict[str, Plan] = {
    "max-pool": _whole(MaxPoolBody, MaxPool, max_pool),
    "savings": _whole(SavingsBody, Savings, savings),
    "headroom": _whole(HeadroomBody, Headroom, headroom),
    "offline": Plan(OfflineBody, Offline, offline.pieces, offline.offline, offline.combined),
    "placement": _whole(PlacementBody, Placement, placement),
    "churn": Plan(ChurnBody, Churn, churn.pieces, churn.churn, churn.combined),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the processes of a job share."""

    plan: str
    host: Host
    body: Body


def ask(question: Question, progress: Progress = lambda _done, _of: None) -> Answer:
    """The answer, here and now.

    Raises:
        MMError: the question makes no sense on this host, or the host refuses what it needs.
    """
    plan = PLANS[question.plan]
    pieces = plan.pieces(question.host, question.body)
    results = [plan.work(question.host, question.body, piece, progress) for piece in pieces]
    return plan.combined(question.host, question.body, results)


def work(question: Question, piece: Any, progress: Progress) -> Any:
    """One piece of a job, or a ``Refusal``."""
    try:
        return PLANS[question.plan].work(question.host, question.body, piece, progress)
    except MMError as error:
        return Refusal(error.data())


def finish(question: Question, results: Sequence[Any]) -> Answer | Refusal:
    """The answer of a job."""
    refused = next((found for found in results if isinstance(found, Refusal)), None)
    return refused or PLANS[question.plan].combined(question.host, question.body, results)
