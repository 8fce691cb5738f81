"""Questions about many hosts at once, and making many."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, overload

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field, create_model

from hugepool.api import examples
from hugepool.api.answers import document, service_of
from hugepool.api.documentation import REPLAY, problems
from hugepool.api.errors import refusal
from hugepool.api.long_work import answer, answered
from hugepool.api.plans import ASKED
from hugepool.api.preferences import Prefer
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Creating
from hugepool.forms.fleet import FilterBody, FleetBody, HostsBody
from hugepool.jobs import Task
from hugepool.mm.boot.spec import HostSpec
from hugepool.mm.machine.digest import fork
from hugepool.service import Created, Filter, ForkOf, HostNotFound, Service, Several
from hugepool.whatif import fleet
from hugepool.whatif.fleet import TOTALS, Asked, Subject
from hugepool.whatif.plans import PLANS

router = APIRouter(route_class=BlockingRoute, prefix="/v1/fleet", tags=["fleet"])
MADE = {
    201: {"description": "All of them are there, and durable.", "headers": {"Idempotent-Replay": REPLAY}},
    **problems(404, 409, 413, 415, 422, 500, 503, 507),
}


@router.post("", status_code=201, response_model=Created, responses=MADE)
def create_fleet(request: Request, conditions: Creating, body: FleetBody = examples.FLEET) -> Response:
    """Make many hosts from templates, all of them or none."""
    wanted = [
        Several(entry.names(), _source(entry), entry.labels, f"hosts[{i}]")
        for i, entry in enumerate(body.hosts)
    ]
    reply = service_of(request).create_all(wanted, conditions.terms(request, body))
    headers = {"Idempotent-Replay": "true"} if reply.replayed else {}
    if reply.error is not None:
        return refusal(request, reply.error, reply.data or None, headers)
    return document(reply.result, 201, headers)


def _source(entry: HostsBody) -> HostSpec | ForkOf:
    return entry.spec.spec() if entry.spec is not None else ForkOf(entry.fork_of or "")


# -- plans -------------------------------------------------------------------------------------------------


class Subjects(Sequence[Subject]):
    """The hosts of a question.  Each is copied when its turn comes, so that few are in memory at once."""

    def __init__(self, service: Service, names: Sequence[str]) -> None:
        self._service, self._names = service, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Subject: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Subject]: ...
    def __getitem__(self, index: int | slice) -> Subject | Sequence[Subject]:
        """A copy of the host as it is now."""
        if isinstance(index, slice):
            return Subjects(self._service, self._names[index])
        name = self._names[index]
        try:
            host, revision = self._service.read(name, fork)
        except HostNotFound as gone:
            return Subject(name, 0, None, gone.data())
        return Subject(name, revision, host)


def _names(service: Service, wanted: FilterBody) -> Iterator[str]:
    which = Filter(wanted.name, wanted.kernel, wanted.labels, tuple(wanted.states))
    return (member.name for member in service.all_members(which))


def _endpoint(word: str, body_type: Any, example: Any) -> Callable[..., Response]:
    def plan(request: Request, body: Any = example, prefer: Prefer = None) -> Response:
        service = service_of(request)
        names = list(_names(service, body.filter))
        asked = Asked(word, PLANS[word].body.model_validate(body.model_dump(exclude={"filter"})))

        def task() -> Task:
            return Task(fleet.work, asked, Subjects(service, names), partial(fleet.finish, word))

        return answer(request, prefer, f"fleet-{word}", task, len(names))

    plan.__name__ = f"plan_fleet_{word.replace('-', '_')}"  # the operation's id
    plan.__annotations__["body"] = body_type
    return plan


def _body(word: str) -> Any:
    """The plan's body, and which hosts it is asked of."""
    asked = PLANS[word].body
    which = Field(default_factory=FilterBody, description="Which hosts; all, without it.")
    return create_model(
        f"Fleet{asked.__name__}", __base__=asked, __doc__=asked.__doc__, filter=(FilterBody, which)
    )


for _word in PLANS:
    _asked = ASKED[_word]
    router.add_api_route(
        f"/plans/{_word}",
        _endpoint(_word, _body(_word), _asked.example),
        methods=["POST"],
        response_model=fleet.FleetAnswer,
        responses=answered(),
        description=f"{_asked.description} Asked of all hosts of a filter; `totals` has {', '.join(TOTALS[_word])}.",
    )
