"""Huge pages that wait for the kernel's worker to restore their vmemmap and free them."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import DeferredModeBody
from hugepool.mm.commands.commands import RunFreeHpageWork, SetDeferredMode
from hugepool.mm.machine.outcomes import Drained, WorkerMode
from hugepool.mm.views.task_view import DeferredFrees, deferred_frees

router = APIRouter(
    route_class=BlockingRoute, prefix="/v1/hosts/{host}/deferred-frees", tags=["deferred frees"]
)


@router.get("", response_model=DeferredFrees, responses=reading())
def get_deferred_frees(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """The queue, oldest first, and who works it off."""
    return read(request, host, deferred_frees)


@router.put("", response_model=WorkerMode, responses=changing())
def set_deferred_mode(
    request: Request, host: HostInPath, conditions: Changing, body: DeferredModeBody = examples.DEFERRED_MODE
) -> Response:
    """Who works off the queue: `auto` the service's worker soon after, `manual` only a drain or a resize."""
    return change(request, host, SetDeferredMode(body.mode), conditions, body)


@router.post("/drain", response_model=Drained, responses=changing(body=False))
def drain_deferred_frees(request: Request, host: HostInPath, conditions: Changing) -> Response:
    """Work off the queue now: what was freed, and what came back into the pool as surplus."""
    return change(request, host, RunFreeHpageWork(), conditions)
