"""Routes that refuse a query parameter they do not know, and answer in the form that ``Accept`` asks for.

A misspelt ``dry_run`` must not change a host.
"""

from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from hugepool.api import media
from hugepool.mm.machine.errors import BadInput

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
SHOWN = 80  # letters of an unknown name that are repeated


class StrictRoute(APIRoute):
    """A route whose query has only parameters that the interface documents."""

    def get_route_handler(self) -> Endpoint:
        """The handler behind a check that costs nothing where there is no query."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if request.scope["query_string"]:
                self._check(request)
            response = await handle(request)
            return media.as_wanted(request, response) if b"text/" in _accept(request) else response

        return checked

    def _check(self, request: Request) -> None:
        known = _known(request.app, self.path_format, request.method)
        for name in request.query_params:
            if name not in known:
                raise _unknown(name, known)


def _accept(request: Request) -> bytes:
    return next((value for name, value in request.scope["headers"] if name == b"accept"), b"")


def _known(app: FastAPI, path: str, method: str) -> list[str]:
    """Names of the query parameters of an operation, from the interface's own description."""
    operation = app.openapi()["paths"].get(path, {}).get(method.lower(), {})
    return [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]


def _unknown(name: str, known: list[str]) -> BadInput:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}?" if close else f"; it takes {', '.join(known) or 'none'}"
    facts = {"did_you_mean": close[0]} if close else {}
    return BadInput(f"there is no query parameter {name[:SHOWN]!r} here{meant}", **facts)
