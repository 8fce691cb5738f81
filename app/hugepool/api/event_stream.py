"""Server-sent events: a host's history as it happens, in bounded memory and threads."""

from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from hugepool.service import Busy, HostNotFound, Service

MAX_STREAMS = 100  # each holds its own thread while it waits
WAIT_SECONDS = 1.0  # how long a thread waits; a stopping service is held up no longer
HEARTBEAT_SECONDS = 15.0
Message = tuple[int, str, Any]  # number, type, data
HELLO = b": hugepool\nretry: 1000\n\n"
HEARTBEAT = b": alive\n\n"


class Streams:
    """The open streams of an application: how many there are, and the threads they wait in.

    ``stopping`` is asked between two waits: a server that stops waits until every answer has ended.
    """

    def __init__(self, most: int = MAX_STREAMS) -> None:
        self.open = 0
        self.most = most
        self.threads = CapacityLimiter(most)
        self.stopping: Callable[[], bool] = lambda: False


class EventStream(StreamingResponse):
    """A stream that gives its place back however it ends."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], streams: Streams) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the host is deleted, the client is gone or the server stops."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


async def open_stream(app: FastAPI, service: Service, host: str, after: int) -> EventStream:
    """Begin a stream.  Raises HostNotFound; Busy when too many are open."""
    await run_sync(service.events, host, after, 1)
    streams = enter(app)

    def wait(behind: int) -> list[Message]:
        events = service.wait_events(host, behind, WAIT_SECONDS)
        return [(event.id, event.type, event) for event in events]

    return EventStream(_send(streams, wait, after), streams)


async def open_feed(app: FastAPI, service: Service, after: int | None) -> EventStream:
    """Begin a stream of the changes of all hosts, behind the newest one by default.  Raises Busy."""
    begin = await run_sync(service.newest_change) if after is None else after
    streams = enter(app)

    def wait(behind: int) -> list[Message]:
        changes = service.wait_changes(behind, WAIT_SECONDS)
        return [(change.seq, change.type, change._asdict()) for change in changes]

    return EventStream(_send(streams, wait, begin), streams)


def enter(app: FastAPI) -> Streams:
    """Take a place for a stream, which an ``EventStream`` gives back.  Raises Busy when too many are open."""
    streams: Streams = app.state.streams
    if streams.open >= streams.most:
        raise Busy(f"{streams.most} event streams are open already")
    streams.open += 1
    return streams


async def _send(streams: Streams, wait: Callable[[int], list[Message]], after: int) -> AsyncIterator[bytes]:
    """Messages in order; the next are fetched when the client took the last, so none pile up."""
    yield HELLO
    sent = monotonic()
    while not streams.stopping():
        try:
            messages = await run_sync(wait, after, limiter=streams.threads, abandon_on_cancel=True)
        except HostNotFound:
            return
        for number, kind, data in messages:
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), to_json(data))
            after = number
        if messages:
            sent = monotonic()
        elif monotonic() - sent >= HEARTBEAT_SECONDS:
            yield HEARTBEAT
            sent = monotonic()
