"""Contiguous ranges: alloc_contig_range and alloc_contig_pages."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, create, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath, Limit
from hugepool.api.paging import Cursor, ListPage, page, position
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import ContigBody
from hugepool.mm.commands.commands import FreeContigRange
from hugepool.mm.machine.memory_outcomes import AllocatedRange, ContigRange
from hugepool.mm.views.range_view import contig_range, ranges

router = APIRouter(
    route_class=BlockingRoute, prefix="/v1/hosts/{host}/contig-ranges", tags=["contiguous ranges"]
)
RangeInPath = Annotated[int, Path(description="Number of the range.", examples=[1])]


@router.post(
    "",
    status_code=201,
    response_model=AllocatedRange,
    responses=changing(409, 507, status=201),
)
def alloc_contig_range(
    request: Request, host: HostInPath, conditions: Changing, body: ContigBody = examples.CONTIG
) -> Response:
    """Empty a range of pages and take it, or find one of a size.

    Free huge pages in it are replaced, used ones migrated.  A refused call can leave traces, shown in `result`: a
    free huge page whose vmemmap cannot be restored stays, and the pool has grown by its replacement.
    """
    return create(
        request, host, body.command(), conditions, body, lambda taken: f"contig-ranges/{taken['id']}"
    )


@router.get("", response_model=ListPage[ContigRange], responses=reading())
def list_contig_ranges(
    request: Request, host: HostInPath, limit: Limit = 100, cursor: Cursor = None, _: IfNoneMatch = None
) -> Response:
    """Ranges taken, in order of their number."""
    after = position(cursor)
    return read(
        request,
        host,
        lambda machine: page(ranges(machine, after, limit + 1), limit, lambda row: row.id),
    )


@router.get("/{range_id}", response_model=ContigRange, responses=reading())
def get_contig_range(
    request: Request, host: HostInPath, range_id: RangeInPath, _: IfNoneMatch = None
) -> Response:
    """One range."""
    return read(request, host, lambda machine: contig_range(machine, range_id))


@router.delete("/{range_id}", response_model=ContigRange, responses=changing(body=False))
def free_contig_range(
    request: Request, host: HostInPath, range_id: RangeInPath, conditions: Changing
) -> Response:
    """Give a range back."""
    return change(request, host, FreeContigRange(range_id), conditions)
