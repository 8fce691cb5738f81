"""From what the service says to an HTTP answer.

An answer is rendered once, as its class says; nothing is validated again.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache, partial
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaSerializer, to_json

from hugepool.api.errors import refusal
from hugepool.api.routing import in_thread
from hugepool.api.terms import Conditions, etag, unchanged
from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.state import Host
from hugepool.service import Reply, Service, WouldWait

JSON = "application/json"


def service_of(request: Request) -> Service:
    """The service of the application that got the request."""
    service: Service = request.app.state.service
    return service


@cache
def _serializer(model: Any) -> SchemaSerializer:
    serializer = TypeAdapter(model).serializer
    if not isinstance(serializer, SchemaSerializer):
        raise TypeError(f"{model} names a type that is not there")
    return serializer


def rendered(value: Any, model: Any = None) -> bytes:
    """JSON of an answer: of a dataclass as its class, or a model, declares it; of plain data as it is."""
    if isinstance(value, bytes):
        return value
    if not is_dataclass(value):
        return to_json(value)
    declared: Any = model or type(value)
    return _serializer(declared).to_json(value)


def document(value: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, which may be rendered already."""
    return Response(rendered(value), status, headers, media_type=JSON)


def read(request: Request, host: str, view: Callable[[Host], Any], *, wait: bool = True) -> Response:
    """Show what ``view`` makes of a host; 304 when the client has this revision already."""
    value, revision = service_of(request).read(host, view, wait=wait)
    return tagged(request, value, revision)


async def at_hand(request: Request, host: str, answer: Callable[[bool], Response]) -> Response:
    """What ``answer`` makes: here if it need not wait (it is called with False), else in a thread.

    For what is asked most: the way to a thread and back costs more than the answer.
    """
    try:
        return answer(False)
    except WouldWait:
        found: Response = await in_thread(request, host, partial(answer, True))
        return found


def tagged(request: Request, value: Any, revision: int) -> Response:
    """A JSON answer with the revision it shows, or 304."""
    headers = {"ETag": etag(revision)}
    if unchanged(request.headers.get("if-none-match"), revision):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return document(rendered(value, _declared(request)), headers=headers)


def _declared(request: Request) -> Any:
    """What the route says that it answers with: it names the type of a list's items."""
    return request.scope["route"].response_model


def change(
    request: Request,
    host: str,
    command: Command[Any],
    conditions: Conditions,
    body: BaseModel | None = None,
) -> Response:
    """Send a command down the road and answer with what came of it."""
    reply = service_of(request).execute(host, command, conditions.terms(request, body))
    return outcome(request, reply)


def create(
    request: Request,
    host: str,
    command: Command[Any],
    conditions: Conditions,
    body: BaseModel,
    place: Callable[[dict[str, Any]], str],
) -> Response:
    """The same for a command that makes something: 201, and where it is.

    ``place``: its path below the host, of the result as plain data.
    """
    reply = service_of(request).execute(host, command, conditions.terms(request, body))
    if reply.error is not None or reply.result is None:
        return outcome(request, reply)
    location = {"Location": f"/v1/hosts/{host}/{place(reply.data)}"}
    return outcome(request, reply, HTTPStatus.CREATED, location)


def emptied(request: Request, reply: Reply) -> Response:
    """The answer to a change that leaves nothing to show: 204, or its refusal."""
    if reply.error is not None:
        return outcome(request, reply)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=reply_headers(reply))


def strictly(
    request: Request, reply: Reply, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """The same for a caller who wants an error when a pool did not reach what was asked; the change is kept."""
    short = reply.data.get("shortfall")
    if reply.error is not None or short is None:
        return outcome(request, reply, status, headers)
    error = {"errno": "EBUSY", "detail": short["summary"], **short}
    return refusal(request, error, reply.data, {**(headers or {}), **reply_headers(reply)})


def outcome(
    request: Request, reply: Reply, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """A change's result, or its refusal with what was kept; either with the revision after it."""
    headers = {**(headers or {}), **reply_headers(reply)}
    if reply.error is not None:
        return refusal(request, reply.error, reply.data or None, headers)
    return document(reply.result, status, headers)


def reply_headers(reply: Reply) -> dict[str, str]:
    """Headers that every answer to a change carries."""
    headers = {"ETag": etag(reply.revision)}
    if reply.replayed:
        headers["Idempotent-Replay"] = "true"
    return headers
