"""Seeing memory: what every part of it is used for, and what is free."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from hugepool.api.answers import read
from hugepool.api.documentation import reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import IfNoneMatch
from hugepool.mm.views import memory_map as view

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}", tags=["memory"])
Start = Annotated[int, Query(ge=0, lt=2**40, description="First page; rounded down to 2 MiB.")]
End = Annotated[
    int | None, Query(ge=1, le=2**40, description="Page behind the last one; all memory when left out.")
]
Bins = Annotated[
    int, Query(ge=1, le=view.MAX_BINS, description="How many parts to cut the range into at most.")
]


@router.get("/memory-map", response_model=view.MemoryPicture, responses=reading())
def get_memory_map(
    request: Request,
    host: HostInPath,
    start: Start = 0,
    end: End = None,
    bins: Bins = 1024,
    _: IfNoneMatch = None,
) -> Response:
    """What physical memory is used for, in columns: a value for each of up to `bins` parts of it."""
    return read(request, host, lambda machine: view.memory_map(machine, start, end, bins))


@router.get("/buddy", response_model=view.Buddy, responses=reading())
def get_buddy(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """Free blocks by zone, migratetype and order, and how many huge pages could be formed of them."""
    return read(request, host, view.buddy)
