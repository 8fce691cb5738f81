"""What /openapi.json says beyond the code, and the page that shows it."""

from html import escape
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from hugepool.api.errors import PROBLEM_JSON

TAGS = [
    {
        "name": "hosts",
        "description": "Simulated machines: booted from a spec, read from a real one, or copied.",
    },
    {"name": "snapshots", "description": "A host kept as it is, and back to what it was."},
    {"name": "fleet", "description": "Many hosts in one request: making them, and plans over all of them."},
    {"name": "huge pages", "description": "Pools by size, and resizing them."},
    {"name": "memory blocks", "description": "Memory as hotplug sees it."},
    {"name": "virtio-mem", "description": "Devices through which a hypervisor plugs memory in parts."},
    {"name": "contiguous ranges", "description": "alloc_contig_range, and the search for a range."},
    {"name": "tasks", "description": "Who uses the memory."},
    {
        "name": "cgroups",
        "description": "Control groups with the hugetlb controller: limits, charges, events.",
    },
    {"name": "hugetlbfs", "description": "Mounts of huge pages, their files, and SysV segments."},
    {"name": "memory", "description": "What every part of memory is used for, and what is free."},
    {"name": "vmemmap", "description": "The page tables of the vmemmap, and single pages."},
    {"name": "deferred frees", "description": "Huge pages that wait for the kernel's worker."},
    {"name": "faults", "description": "Fault injection in the kernel's words."},
    {"name": "files", "description": "/proc and /sys of a host, as text."},
    {"name": "history", "description": "Console, events, and the audit of all counters."},
    {"name": "what-if", "description": "Steps on a throw-away copy of a host, all answered."},
    {"name": "plans", "description": "Questions of planners, answered by trying on copies of a host."},
    {"name": "jobs", "description": "Long work of this process: how far it is, its result, cancelling it."},
    {"name": "service", "description": "Health, version, metrics."},
]
ABOUT = {
    HTTPStatus.UNAUTHORIZED: "The service wants a token, and knows none that came with the request (EACCES).",
    HTTPStatus.FORBIDDEN: "The token may not do this (EPERM), or the file's mode does not allow it (EACCES).",
    HTTPStatus.NOT_FOUND: "There is no such host, size, node, block, page, task or fault point (ENOENT).",
    HTTPStatus.CONFLICT: "Taken (EEXIST) or busy (EBUSY).",
    HTTPStatus.PRECONDITION_FAILED: "The host has another revision than If-Match says; nothing changed.",
    HTTPStatus.REQUEST_TIMEOUT: "The request body did not come in time (ETIMEDOUT).",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request body is larger than this service reads (EFBIG).",
    HTTPStatus.MISDIRECTED_REQUEST: "`Host` is no name of this service (EHOSTUNREACH).",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The request body is not sent as JSON (EINVAL).",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Malformed or impossible input (EINVAL); nothing changed.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A bug of hugepool; rolled back.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too busy right now (EAGAIN); try again.",
    HTTPStatus.INSUFFICIENT_STORAGE: "No memory (ENOMEM). With `result`, what was done before is kept.",
}
EXAMPLES = {
    HTTPStatus.INSUFFICIENT_STORAGE: {
        "detail": "6 of 16 huge pages could not be freed: no memory for their vmemmap on node 0",
        "type": "/problems/vmemmap-restore",
        "title": "Cannot allocate memory",
        "status": 507,
        "instance": "/v1/hosts/lab/hugepages/2048kB/nr_hugepages",
        "errno": "ENOMEM",
        "errno_number": 12,
        "reason": "vmemmap-restore",
        "node": 0,
        "pages_needed": 6,
        "pages_available": 2,
    },
    HTTPStatus.NOT_FOUND: {
        "detail": "no host 'lab'",
        "type": "urn:hugepool:errno:ENOENT",
        "title": "No such file or directory",
        "status": 404,
        "instance": "/v1/hosts/lab",
        "errno": "ENOENT",
        "errno_number": 2,
    },
    HTTPStatus.UNPROCESSABLE_ENTITY: {
        "detail": "count: must be a whole number",
        "type": "urn:hugepool:errno:EINVAL",
        "title": "Invalid argument",
        "status": 422,
        "instance": "/v1/hosts/lab/hugepages/2048kB/nr_hugepages",
        "errno": "EINVAL",
        "errno_number": 22,
        "errors": [{"field": "count", "message": "must be a whole number"}],
    },
}
_ALWAYS = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
_BODY = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
REVISION = {
    "description": "The host's revision, and which host of its name it is; as `If-Match` and `If-None-Match` take it.",
    "schema": {"type": "string"},
    "example": '"7-5f0e1c2a"',
}
REPLAY = {
    "description": "`true` when the answer was stored for this Idempotency-Key.",
    "schema": {"type": "string", "enum": ["true"]},
}

PLACE = {"Location": {"description": "Address of what was made.", "schema": {"type": "string"}}}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """Documentation of refusals as problem documents."""
    return {int(status): _problem(HTTPStatus(status)) for status in statuses}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status in EXAMPLES:
        media["example"] = EXAMPLES[status]
    return {"description": ABOUT[status], "content": {PROBLEM_JSON: media}}


def reading(example: Any = None, status: int = 200) -> Responses:
    """Documentation of a read of a host: the answer, 304, and what may be refused."""
    answer: dict[str, Any] = {"description": "As it is now.", "headers": {"ETag": REVISION}}
    if example is not None:
        answer["content"] = {"application/json": {"example": example}}
    unchanged = {"description": "The client has this revision already.", "headers": {"ETag": REVISION}}
    return {status: answer, 304: unchanged, **problems(404, *_ALWAYS)}


def changing(*refusals: int, example: Any = None, status: int = 200, body: bool = True) -> Responses:
    """Documentation of a change of a host: the answer, and what may be refused."""
    answer: dict[str, Any] = {
        "description": "Done, and durable.",
        "headers": {"ETag": REVISION, "Idempotent-Replay": REPLAY}
        | (PLACE if status == HTTPStatus.CREATED else {}),
    }
    if example is not None:
        answer["content"] = {"application/json": {"example": example}}
    known = {404, 412, *_ALWAYS, *refusals, *(_BODY if body else ())}
    return {status: answer, **problems(*sorted(known))}


# -- the page ----------------------------------------------------------------------------------------------

ASSETS = "/docs/assets"
POLICY = (  # the page that FastAPI makes has its script within
    "default-src 'none'; script-src 'unsafe-inline' 'self'; style-src 'unsafe-inline' 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; frame-ancestors 'none'"
)
SWAGGER_UI = files("fastapi_offline") / "static"


def serve_docs(app: FastAPI) -> None:
    """Serve /docs: Swagger UI, whose files come with a package, over a plain list of operations."""
    app.mount(ASSETS, StaticFiles(directory=str(SWAGGER_UI)), name="assets")

    def show_docs(request: Request) -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="hugepool",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url="data:,",
            swagger_ui_parameters={"docExpansion": "list", "displayRequestDuration": True},
        )
        text = bytes(page.body).decode()
        plain = plain_list(request.app.openapi())
        page_with_list = text.replace('<div id="swagger-ui">', f'<div id="swagger-ui">{plain}', 1)
        return HTMLResponse(page_with_list, headers={"Content-Security-Policy": POLICY})

    app.add_api_route("/docs", show_docs, include_in_schema=False)


def plain_list(schema: dict[str, Any]) -> str:
    """The operations as a table: what is seen without scripts, and replaced by Swagger UI when it loads."""
    rows = "".join(
        f"<tr><td><b>{escape(method.upper())}</b></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation.get('summary', ''))}</td></tr>"
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    intro = '<h1>hugepool</h1><p>The whole description is in <a href="/openapi.json">/openapi.json</a>.</p>'
    return f"{intro}<table>{rows}</table>"
