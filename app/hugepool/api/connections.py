"""Connections with deadlines: a client that sends its request's head slowly, or does not read, holds nothing up.

uvicorn bounds how long a connection may be idle between two requests, and no more.
"""

import logging
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hugepool.settings import Settings

LOG = logging.getLogger(__name__)
MAX_HEAD_BYTES = 64 << 10


def _answer(status: str, errno: str, number: int, title: str, detail: str) -> bytes:
    body = (
        f'{{"type": "urn:hugepool:errno:{errno}", "title": "{title}", "status": {status[:3]}, "detail": "{detail}", '
        f'"instance": "/", "errno": "{errno}", "errno_number": {number}}}'
    ).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Retry-After: 1\r\nConnection: close\r\n\r\n".encode() + body


TOO_MANY = _answer(
    "503 Service Unavailable",
    "EAGAIN",
    11,
    "Resource temporarily unavailable",
    "too many connections are open",
)
TOO_LONG = _answer(
    "431 Request Header Fields Too Large",
    "EFBIG",
    27,
    "File too large",
    "the head of the request is too large",
)
TOO_SLOW = _answer(
    "408 Request Timeout",
    "ETIMEDOUT",
    110,
    "Connection timed out",
    "the head of the request did not come in time",
)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits; ``bounded`` makes the class for some settings."""

    settings: Settings

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._timer: TimerHandle | None = None
        self._stuck: TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin; the first head has its deadline from here on."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.connections:
            LOG.warning("more than %d connections are open", self.settings.connections)
            self._end(TOO_MANY)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._timer, self._stuck = _cancelled(self._timer), _cancelled(self._stuck)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head is read up to a limit."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end(TOO_LONG)

    # -- the head -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a head is here."""
        super().on_message_begin()
        if self._timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is complete; how long its body may take is not watched here."""
        self._timer = _cancelled(self._timer)
        self._in_head = False
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._timer = self.loop.call_later(self.settings.header_seconds, self._end, TOO_SLOW)

    def _end(self, answer: bytes) -> None:
        """Answer what no request is there for yet, and close; nothing more is read."""
        if not self.transport.is_closing():
            if not self._answering():
                self.transport.write(answer)
            self.transport.close()

    def _answering(self) -> bool:
        """Whether an answer is under way, into which nothing may be written."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # -- the answer -----------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client has stopped reading."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self.settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads on."""
        self._stuck = _cancelled(self._stuck)
        super().resume_writing()


def _cancelled(timer: TimerHandle | None) -> TimerHandle | None:
    """What is left of a timer: nothing."""
    if timer is not None:
        timer.cancel()
    return None


def bounded(settings: Settings) -> Callable[..., Any]:
    """The protocol class for some settings."""
    return type("Bounded", (BoundedProtocol,), {"settings": settings})
