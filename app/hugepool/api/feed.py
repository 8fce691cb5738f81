"""The changes of all hosts, as a list and as they happen."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from hugepool.api.answers import document, service_of
from hugepool.api.documentation import Responses, problems
from hugepool.api.event_stream import open_feed
from hugepool.api.fields import Limit
from hugepool.api.history import LastEventId
from hugepool.api.routing import BlockingRoute

router = APIRouter(route_class=BlockingRoute, prefix="/v1/events", tags=["history"])
After = Annotated[int, Query(ge=0, lt=2**63, description="Only changes behind this number.")]
Begin = Annotated[
    int | None,
    Query(ge=0, lt=2**63, description="Begin behind this change; with the next one when left out."),
]
STREAM: Responses = {
    200: {
        "description": "Changes as they happen; `id:` is the number of the change.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **problems(422, 500, 503),
}


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One change of one host.

    Attributes:
        seq: number of the change, rising over all hosts.
        type: the event that made the change, `HostDeleted` for the last one of a host.
    """

    seq: int
    host: str
    revision: int
    time: str
    type: str


@dataclass(frozen=True, slots=True)
class Feed:
    """Changes of all hosts, oldest first; ``next_after`` is where the next page begins."""

    items: list[FeedItem]
    next_after: int


@router.get("", response_model=Feed, responses=problems(422, 500, 503))
def list_changes(request: Request, after: After = 0, limit: Limit = 100) -> Response:
    """Changes of all hosts in order.  What happened in a change is in the events of its host."""
    found = service_of(request).changes(after, limit)
    return document(Feed([FeedItem(*change) for change in found], found[-1].seq if found else after))


@router.get("/stream", response_class=StreamingResponse, responses=STREAM)
async def stream_changes(
    request: Request, after: Begin = None, last_event_id: LastEventId = None
) -> Response:
    """Changes of all hosts as they happen (server-sent events), behind `Last-Event-ID`, `after`, or from now on."""
    begin = after if last_event_id is None else int(last_event_id)
    return await open_feed(request.app, service_of(request), begin)
