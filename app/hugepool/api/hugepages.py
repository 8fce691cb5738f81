"""Huge page pools."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hugepool.api import contig_schemas, examples, schemas
from hugepool.api.answers import at_hand, change, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath, SizeInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import DemoteBody, OvercommitBody, PoolSizeBody
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, order_of, size_name
from hugepool.mm.views import host_view as view

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/hugepages", tags=["huge pages"])
SIZES = [size_name(order) for order in (ORDER_2M, ORDER_1G)]


def order_in_path(size: str) -> int:
    """The order of a size word.  Raises ENOENT for a size that no x86-64 host has."""
    order = order_of(size)
    if order is None:
        raise NotFound(f"no huge page size {size[:40]!r}; x86-64 has {', '.join(SIZES)}", sizes=SIZES)
    return order


@router.get("", response_model=schemas.HugePagesList, responses=reading())
def list_hugepages(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All huge page sizes of a host with their counters."""
    return read(request, host, lambda machine: {"items": view.hugepages(machine)})


@router.get("/{size}", response_model=schemas.HugePages, responses=reading(examples.HUGEPAGES))
async def get_hugepages(
    request: Request, host: HostInPath, size: SizeInPath, _: IfNoneMatch = None
) -> Response:
    """One huge page size with its counters."""

    def answer(wait: bool) -> Response:  # at_hand gives it
        return read(request, host, lambda machine: view.hugepages_of(machine, size), wait=wait)

    return await at_hand(request, host, answer)


@router.put(
    "/{size}/nr_hugepages",
    response_model=schemas.Resize,
    responses=changing(507, example=examples.RESIZE),
)
def set_nr_hugepages(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    conditions: Changing,
    body: PoolSizeBody = examples.POOL_SIZE,
) -> Response:
    """Resize a pool, as a write to `nr_hugepages` does.

    Growing less than asked is a success with a `shortfall`: the kernel's write succeeds too.  A shrink whose
    vmemmap cannot be restored is refused with ENOMEM and carries `result`: what could be freed is freed, the
    refused pages are back in the pool as surplus.
    """
    return change(request, host, body.command(order_in_path(size)), conditions, body)


@router.put("/{size}/nr_overcommit_hugepages", response_model=schemas.Overcommit, responses=changing())
def set_nr_overcommit_hugepages(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    conditions: Changing,
    body: OvercommitBody = examples.OVERCOMMIT,
) -> Response:
    """How many surplus huge pages may be made on demand, as a write to `nr_overcommit_hugepages` does."""
    return change(request, host, body.command(order_in_path(size)), conditions, body)


@router.post("/{size}/demote", response_model=contig_schemas.Demotion, responses=changing(507))
def demote(
    request: Request,
    host: HostInPath,
    size: SizeInPath,
    conditions: Changing,
    body: DemoteBody = examples.DEMOTE,
) -> Response:
    """Split free gigantic pages into pages of the next smaller size, on kernels that can (6.1 and later)."""
    return change(request, host, body.command(order_in_path(size)), conditions, body)
