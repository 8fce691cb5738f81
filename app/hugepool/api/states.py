"""The states that a new host may be made in."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hugepool.api.answers import document
from hugepool.api.documentation import reading
from hugepool.api.routing import BlockingRoute
from hugepool.whatif.states import StateRow, state_rows

router = APIRouter(route_class=BlockingRoute, prefix="/v1/states", tags=["hosts"])
LISTED = reading()
LISTED.pop(304)
LISTED.pop(404)
LISTED[200].pop("headers")


@dataclass(frozen=True, slots=True)
class StateList:
    """All states, by name."""

    items: list[StateRow]


@router.get("", response_model=StateList, responses=LISTED)
def list_states(request: Request) -> Response:
    """States that `POST /v1/hosts` knows by name, each with the machine and the steps that make it."""
    del request
    return document(StateList(state_rows()))
