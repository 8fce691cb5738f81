"""Around every request: a limit on its body, and a count of its answer."""

from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hugepool.api.metrics import RequestMetrics

TOO_LARGE = 413


class BodyLimit:
    """Stop reading a request body that is too large; the refusal is raised where the body is read.

    Starlette's own limit answers in plain text, whatever the error handlers say.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0
        announced = _content_length(scope)

        async def limited() -> Message:
            nonlocal seen
            if announced > self.max_bytes:
                raise HTTPException(TOO_LARGE)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise HTTPException(TOO_LARGE)
            return message

        await self.app(scope, limited, send)


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class CountRequests:
    """Count answers by route, method and status, and the time to their first byte."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answered(scope, message["status"], perf_counter() - began)
            await send(message)

        await self.app(scope, receive, counted)
