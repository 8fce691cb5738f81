"""The file mirror: /proc and /sys of a host as text, and write(2) on them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response

from hugepool.api.answers import document, outcome, reply_headers, service_of, strictly
from hugepool.api.documentation import Responses, changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch, Strict, etag, unchanged
from hugepool.fs import render, write
from hugepool.mm.commands.commands import Demote, SetMaxHugePages
from hugepool.mm.machine.state import Host
from hugepool.service import Reply

MAX_POSITION = (1 << 63) - 1  # loff_t
router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/fs", tags=["files"])
FileInPath = Annotated[
    str, Path(description="A path of the host, without the leading /.", examples=["proc/meminfo"])
]
RawBody = Annotated[
    bytes,
    Body(
        media_type="application/octet-stream",
        description="What write(2) is given.",
        openapi_examples={"size": {"summary": "A pool of 1024 pages", "value": "1024"}},
    ),
]
OUTCOME, WRITTEN = "Hugepool-Outcome", "Hugepool-Written"
Position = Annotated[
    int,
    Query(
        ge=0,
        le=MAX_POSITION,
        description="Where in the file the write begins, in bytes: a sysctl takes nothing behind its beginning.",
    ),
]
READ: Responses = reading()
READ[200] = {
    "description": "The file as the kernel prints it, or what a folder holds.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
WRITE: Responses = changing(403, 409, 507, status=HTTPStatus.NO_CONTENT)
WRITE[HTTPStatus.NO_CONTENT] = {
    "description": "The kernel's write succeeds, also when the pool ended elsewhere than asked.",
    "headers": {
        OUTCOME: {"description": "What was asked and what came of it.", "schema": {"type": "string"}},
        WRITTEN: {
            "description": "How many bytes were taken: what write(2) returns.",
            "schema": {"type": "integer"},
        },
    },
}


@router.get("/{path:path}", response_model=render.Listing, responses=READ)
def read_file(request: Request, host: HostInPath, path: FileInPath, _: IfNoneMatch = None) -> Response:
    """One file as text, byte for byte in the kernel's format; of a folder, its entries as JSON."""
    value, revision = service_of(request).read(host, lambda machine: _show(machine, "/" + path.strip("/")))
    headers = {"ETag": etag(revision)}
    if unchanged(request.headers.get("if-none-match"), revision):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if isinstance(value, str):
        return PlainTextResponse(value, headers=headers)
    return document(value, headers=headers)


def _show(machine: Host, path: str) -> str | render.Listing:
    if not render.is_directory(machine, path):
        return render.render(machine, path)
    return render.Listing(render.listdir(machine, path))


@router.put("/{path:path}", status_code=HTTPStatus.NO_CONTENT, responses=WRITE)
def write_file(
    request: Request,
    host: HostInPath,
    path: FileInPath,
    conditions: Changing,
    body: RawBody = b"",
    strict: Strict = False,
    position: Position = 0,
) -> Response:
    """Write to a file as write(2) does, with its own parse rules and errnos.

    A pool size that could not be reached is no error here, as it is none in the kernel: the outcome is in the
    header `Hugepool-Outcome`.
    """
    target = "/" + path.strip("/")
    service = service_of(request)
    asked, revision = service.read(
        host, lambda machine: write.parse_write(machine, target, body, None, position)
    )
    written = {WRITTEN: str(asked.used)}
    if asked.command is None:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"ETag": etag(revision), **written})
    reply = service.execute(host, asked.command, conditions.terms(request, body))
    if strict and (reply.error is not None or reply.data.get("shortfall")):
        return strictly(request, reply)
    if reply.error is not None and not (asked.hides_refusal and reply.result is not None):
        return outcome(request, reply)
    headers = reply_headers(reply) | written
    if isinstance(asked.command, SetMaxHugePages | Demote):
        headers[OUTCOME] = _outcome(asked.requested, reply)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


def _outcome(requested: int | None, reply: Reply) -> str:
    after = reply.data.get("after", {})
    said = f"requested={requested}; nr_hugepages={after.get('nr_hugepages')}"
    reason = (reply.error or {}).get("reason") or (reply.data.get("shortfall") or {}).get("reason")
    return said if reason is None else f"{said}; reason={reason}"
