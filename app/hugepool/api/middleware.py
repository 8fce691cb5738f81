"""Around every request: how much of it is read, how long that may take, and a count of its answer."""

import asyncio
import logging
from http import HTTPStatus
from time import monotonic, perf_counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hugepool.api.collectors import RequestMetrics
from hugepool.settings import Settings

LOG = logging.getLogger(__name__)
MAX_VALUES = 250_000  # values in a JSON body; each costs some 5 us to read, in which nobody else is served
FILE_BODIES = {("POST", "/v1/hosts"), ("POST", "/v1/hosts/import"), ("POST", "/v1/what-if")}
ARCHIVES = "/v1/hosts/import"
CLOSE = {"Connection": "close"}  # the rest of the body is not wanted


class BodyRefused(HTTPException):
    """A body that is not read to its end; ``detail`` says why."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        retry = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        super().__init__(status, detail, {**CLOSE, **retry})


class BodyLimits:
    """Bodies are read within limits: of bytes each, of bytes in all, of JSON values, and of time.

    The refusal is raised where the body is read, before anything was done.  Starlette's own limit answers in plain
    text, whatever the error handlers say.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        body = _Body(self, scope, receive)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.held_bytes -= body.seen

    def take(self, nbytes: int) -> None:
        """Count bytes of a body in.  Raises BodyRefused when all bodies together are too large."""
        if self.held_bytes + nbytes > self.settings.bodies_bytes:
            detail = "the request bodies at hand take all the memory there is for them; try again"
            raise BodyRefused(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        self.held_bytes += nbytes


class _Body:
    """One body on its way in."""

    def __init__(self, limits: BodyLimits, scope: Scope, receive: Receive) -> None:
        settings = limits.settings
        self.seen = 0
        self._values = 0
        self._limits = limits
        self._receive = receive
        self._seconds = settings.body_seconds
        self._deadline = monotonic() + self._seconds
        self._json = scope["path"] != ARCHIVES
        large = (scope["method"], scope["path"]) in FILE_BODIES
        self._most = (
            settings.max_body_bytes if large else min(settings.max_json_bytes, settings.max_body_bytes)
        )
        self._announced = _content_length(scope)
        self._complete = False

    async def receive(self) -> Message:
        """The next part.  Raises BodyRefused."""
        if self._complete:
            return await self._receive()
        self._check_size(self._announced)
        try:
            async with asyncio.timeout(self._deadline - monotonic()):
                message = await self._receive()
        except TimeoutError:
            detail = f"the body did not come within {self._seconds:g} seconds"
            raise BodyRefused(HTTPStatus.REQUEST_TIMEOUT, detail) from None
        self._complete = not message.get("more_body", False)
        part = message.get("body", b"")
        self._check_size(self.seen + len(part))
        self._limits.take(len(part))
        self.seen += len(part)
        if self._json:
            self._count(part)
        return message

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self._most:
            detail = f"the request body is larger than the {self._most} bytes that are read here"
            raise BodyRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)

    def _count(self, part: bytes) -> None:
        """Count JSON's values by what stands between them: nothing is parsed before all are counted."""
        self._values += part.count(b",") + part.count(b"[") + part.count(b"{")
        if self._values > MAX_VALUES:
            detail = f"the request body has more than {MAX_VALUES} values (commas and opening brackets are counted)"
            raise BodyRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _has_body(scope: Scope) -> bool:
    return any(name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"])


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class CountRequests:
    """Count answers by route, method and status, and the time to their first byte.

    Requests that a stop cuts are logged, and answered if they can be.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, cut: ASGIApp) -> None:
        self.app = app
        self.metrics = metrics
        self.cut = cut  # answers a request that is cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, started = perf_counter(), False

        async def counted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self.metrics.answered(scope, message["status"], perf_counter() - began)
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except asyncio.CancelledError:
            took = perf_counter() - began
            LOG.warning("the stop cut %s %s after %.1f s", scope["method"], scope["path"][:200], took)
            if not started:
                await self.cut(scope, receive, counted)
