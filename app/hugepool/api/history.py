"""What happened to a host: its console, its events, and the audit of all counters."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from hugepool.api.answers import service_of, tagged
from hugepool.api.documentation import Responses, reading
from hugepool.api.event_stream import open_stream
from hugepool.api.fields import HostInPath, Limit
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import IfNoneMatch, etag
from hugepool.mm.machine.state import Host
from hugepool.mm.views.check import Audit
from hugepool.mm.views.history import Dmesg, EventPage
from hugepool.service import MAX_DMESG_LINES

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}", tags=["history"])
After = Annotated[int, Query(ge=0, lt=2**63, description="Only events behind this number.")]
Newest = Annotated[int | None, Query(ge=1, le=1000, description="Only this number of the newest events.")]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^[0-9]{1,18}$",
        description="The last event that the client has; what an EventSource sends when it connects again.",
    ),
]
TEXT = "text/plain"
DMESG: Responses = reading()
DMESG[200]["content"] = {TEXT: {"schema": {"type": "string"}}}
STREAM: Responses = reading()
STREAM.pop(304)
STREAM[200] = {
    "description": "Events as they happen; `id:` is the event's number.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def _nothing(machine: Host) -> None:
    del machine


Lines = Annotated[int, Query(ge=1, le=MAX_DMESG_LINES, description="How many of the newest lines.")]


@router.get("/dmesg", response_model=Dmesg, responses=DMESG)
def get_dmesg(
    request: Request, host: HostInPath, limit: Lines = MAX_DMESG_LINES, _: IfNoneMatch = None
) -> Response:
    """The newest lines that the kernel would have printed; as JSON, or with `Accept: text/plain` as text."""
    service = service_of(request)
    _value, revision = service.read(host, _nothing)
    lines = [event.data["line"] for event in service.console(host, limit)]
    answer = tagged(request, Dmesg(lines), revision)
    if _wants_text(request.headers.get("accept", "")) and answer.status_code != HTTPStatus.NOT_MODIFIED:
        answer = PlainTextResponse("".join(f"{line}\n" for line in lines), headers={"ETag": etag(revision)})
    answer.headers["Vary"] = "Accept"
    return answer


def _wants_text(accept: str) -> bool:
    """Whether text/plain stands before anything that JSON would do for."""
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in {TEXT, "text/*"}:
            return True
        if kind in {"application/json", "application/*", "*/*"}:
            return False
    return False


@router.get("/events", response_model=EventPage, responses=reading())
def list_events(
    request: Request,
    host: HostInPath,
    after: After = 0,
    limit: Limit = 100,
    newest: Newest = None,
    _: IfNoneMatch = None,
) -> Response:
    """Every change in order, oldest first; with `newest` the last ones alone."""
    service = service_of(request)
    _value, revision = service.read(host, _nothing)
    if newest is not None:
        after, limit = max(after, service.last_event(host) - newest), newest
    items = service.events(host, after, limit)
    return tagged(request, EventPage(items, items[-1].id if items else after), revision)


@router.get("/events/stream", response_class=StreamingResponse, responses=STREAM)
async def stream_events(
    request: Request, host: HostInPath, after: After = 0, last_event_id: LastEventId = None
) -> Response:
    """Events as they happen (server-sent events), beginning behind `Last-Event-ID` or `after`.

    Ends when the host is deleted.  Comments in between show that the connection is alive.
    """
    begin = after if last_event_id is None else int(last_event_id)
    return await open_stream(request.app, service_of(request), host, begin)


@router.get("/audit", response_model=Audit, responses=reading())
def audit(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """Recount everything from the state of the pages, and compare with all counters."""
    found, revision = service_of(request).audit(host)
    return tagged(request, found, revision)
