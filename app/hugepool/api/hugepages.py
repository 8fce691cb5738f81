"""Huge page pools."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from hugepool.api import examples, media
from hugepool.api.answers import at_hand, change, outcome, read, service_of, strictly, tagged
from hugepool.api.documentation import Responses, changing, reading
from hugepool.api.fields import HostInPath, SizeInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch, Strict, etag
from hugepool.forms.bodies import DemoteBody, OvercommitBody, PoolSizeBody
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.pool_outcomes import Demotion, Overcommit, Resize
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, ULONG_MAX, order_of, size_name
from hugepool.mm.views import explain as explain_view
from hugepool.mm.views.pool_view import HugePages, HugePagesList, hugepages, hugepages_of

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/hugepages", tags=["huge pages"])
EXPLAINED: Responses = reading()
EXPLAINED[200]["content"] = {media.TEXT: {"schema": {"type": "string"}}}
CountAsked = Annotated[int | None, Query(ge=0, le=ULONG_MAX, description="A size to try.")]
NodeAsked = Annotated[int | None, Query(ge=0, le=1023, description="Only the part of the pool on this node.")]
SIZES = [size_name(order) for order in (ORDER_2M, ORDER_1G)]


def order_in_path(size: str) -> int:
    """The order of a size word.  Raises ENOENT for a size that no x86-64 host has."""
    order = order_of(size)
    if order is None:
        raise NotFound(f"no huge page size {size[:40]!r}; x86-64 has {', '.join(SIZES)}", sizes=SIZES)
    return order


@router.get("", response_model=HugePagesList, responses=reading())
def list_hugepages(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All huge page sizes of a host with their counters."""
    return read(request, host, lambda machine: HugePagesList(hugepages(machine)))


@router.get("/{size}", response_model=HugePages, responses=reading(examples.HUGEPAGES))
async def get_hugepages(
    request: Request, host: HostInPath, size: SizeInPath, _: IfNoneMatch = None
) -> Response:
    """One huge page size with its counters."""

    def answer(wait: bool) -> Response:  # at_hand gives it
        return read(request, host, lambda machine: hugepages_of(machine, size), wait=wait)

    return await at_hand(request, host, answer)


@router.put(
    "/{size}/nr_hugepages",
    response_model=Resize,
    responses=changing(409, 507, example=examples.RESIZE),
)
def set_nr_hugepages(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    conditions: Changing,
    body: PoolSizeBody = examples.POOL_SIZE,
    strict: Strict = False,
) -> Response:
    """Resize a pool, as a write to `nr_hugepages` does.

    Growing less than asked is a success with a `shortfall`: the kernel's write succeeds too.  A shrink whose
    vmemmap cannot be restored is refused with ENOMEM and carries `result`: what could be freed is freed, the
    refused pages are back in the pool as surplus.
    """
    command = body.command(order_in_path(size))
    reply = service_of(request).execute(host, command, conditions.terms(request, body))
    return strictly(request, reply) if strict else outcome(request, reply)


@router.put("/{size}/nr_overcommit_hugepages", response_model=Overcommit, responses=changing())
def set_nr_overcommit_hugepages(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    conditions: Changing,
    body: OvercommitBody = examples.OVERCOMMIT,
) -> Response:
    """How many surplus huge pages may be made on demand, as a write to `nr_overcommit_hugepages` does."""
    return change(request, host, body.command(order_in_path(size)), conditions, body)


@router.post("/{size}/demote", response_model=Demotion, responses=changing(409, 507))
def demote(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    conditions: Changing,
    body: DemoteBody = examples.DEMOTE,
) -> Response:
    """Split free gigantic pages into pages of the next smaller size, on kernels that can (6.1 and later)."""
    return change(request, host, body.command(order_in_path(size)), conditions, body)


@router.get("/{size}/explain", response_model=explain_view.Explanation, responses=EXPLAINED)
def explain_pool(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    count: CountAsked = None,
    node: NodeAsked = None,
    _: IfNoneMatch = None,
) -> Response:
    """Why a pool is as it is, in sentences; with `count`, what a write of it would come to.  Changes nothing."""
    found, revision = service_of(request).read(
        host, lambda machine: explain_view.explain(machine, size, count, node)
    )
    answer = tagged(request, found, revision)
    if media.wanted(request, media.JSON, media.TEXT) == media.TEXT and answer.status_code == HTTPStatus.OK:
        answer = PlainTextResponse(explain_view.as_text(found), headers={"ETag": etag(revision)})
    answer.headers["Vary"] = "Accept"
    return answer
