"""HEAD and OPTIONS, for every address: what GET would say without its body, and which methods there are."""

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTED = ("route", "endpoint", "path_params")  # what is counted by


def methods_of(request: Request) -> list[str]:
    """All methods of the most exact address that fits; the framework names those of one route only."""
    routes: list[Route] = request.app.every_route()
    path = next((r.path for r in routes if r.matches(request.scope)[0] != Match.NONE), None)
    found = {method for route in routes if route.path == path for method in route.methods or ()}
    if found:
        found |= {"OPTIONS", *(("HEAD",) if "GET" in found else ())}
    return sorted(found)


class HeadAndOptions:
    """Answers OPTIONS, and HEAD as GET with the body left out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        method = scope["method"] if scope["type"] == "http" else None
        known = methods_of(Request(scope)) if method in {"HEAD", "OPTIONS"} else []
        if method == "OPTIONS" and known:
            await Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(known)})(
                scope, receive, send
            )
        elif method == "HEAD" and "GET" in known:
            await self._head(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The client of a stream is gone once it has the head."""
        answered = False

        async def headed(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                scope.update({name: inner[name] for name in ROUTED if name in inner})
                await send(message)
            elif not answered:
                answered = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def received() -> Message:
            return {"type": "http.disconnect"} if answered else await receive()

        inner = {**scope, "method": "GET"}
        await self.app(inner, received, headed)
