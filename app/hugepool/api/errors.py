"""The one table errno -> HTTP status, and every refusal as ``application/problem+json`` (RFC 9457)."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from hugepool.api.methods import methods_of
from hugepool.api.middleware import BodyRefused
from hugepool.forms.validation import describe
from hugepool.jobs import NoRoom, NoSuchJob
from hugepool.mm.machine.errors import ERRNO_NUMBER, ERRNO_TEXT, MMError
from hugepool.service import Busy, Damaged, IdempotencyMismatch, PreconditionFailed, StoreFailure

LOG = logging.getLogger(__name__)
PROBLEM_JSON = "application/problem+json"

STATUS = {
    "EPERM": HTTPStatus.FORBIDDEN,
    "EACCES": HTTPStatus.FORBIDDEN,
    "ENOENT": HTTPStatus.NOT_FOUND,
    "ENXIO": HTTPStatus.NOT_FOUND,
    "ESRCH": HTTPStatus.NOT_FOUND,
    "EINTR": HTTPStatus.CONFLICT,
    "EBUSY": HTTPStatus.CONFLICT,
    "EEXIST": HTTPStatus.CONFLICT,
    "EINVAL": HTTPStatus.UNPROCESSABLE_ENTITY,
    "EFBIG": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "ERANGE": HTTPStatus.UNPROCESSABLE_ENTITY,
    "EOPNOTSUPP": HTTPStatus.UNPROCESSABLE_ENTITY,
    "EIO": HTTPStatus.INTERNAL_SERVER_ERROR,
    "EAGAIN": HTTPStatus.SERVICE_UNAVAILABLE,
    "ENOMEM": HTTPStatus.INSUFFICIENT_STORAGE,
    "ENOSPC": HTTPStatus.INSUFFICIENT_STORAGE,
    "EDQUOT": HTTPStatus.INSUFFICIENT_STORAGE,
}

# What HTTP itself refuses has a status first; the errno is the one a kernel would choose for it.
ERRNO_OF_STATUS = {
    HTTPStatus.UNAUTHORIZED: "EACCES",
    HTTPStatus.NOT_FOUND: "ENOENT",
    HTTPStatus.METHOD_NOT_ALLOWED: "EOPNOTSUPP",
    HTTPStatus.PRECONDITION_FAILED: "ESTALE",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "EFBIG",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "EINVAL",
    HTTPStatus.UNPROCESSABLE_ENTITY: "EINVAL",
    HTTPStatus.INTERNAL_SERVER_ERROR: "EIO",
    HTTPStatus.SERVICE_UNAVAILABLE: "EAGAIN",
    HTTPStatus.REQUEST_TIMEOUT: "ETIMEDOUT",
}
NUMBER = {
    **ERRNO_NUMBER,
    "EAGAIN": 11,
    "ETIMEDOUT": 110,
    "ESTALE": 116,
    "EHOSTUNREACH": 113,
    "EDQUOT": 122,
}
TITLE = {
    **ERRNO_TEXT,
    "EAGAIN": "Resource temporarily unavailable",
    "ESTALE": "Stale file handle",
    "ETIMEDOUT": "Connection timed out",
    "EHOSTUNREACH": "No route to host",
    "EDQUOT": "Disk quota exceeded",
}

HTTP_DETAIL = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address; /openapi.json lists what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not understand {method}; it takes {allow}",
    HTTPStatus.UNPROCESSABLE_ENTITY: "the request body cannot be read as JSON",
}
MAX_DETAIL = 2000
MAX_INSTANCE = 500


def problem(
    request: Request,
    errno: str,
    detail: str,
    *,
    status: int | None = None,
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document.  ``facts`` stand next to the fixed fields and never replace one."""
    status = status or STATUS.get(errno, HTTPStatus.INTERNAL_SERVER_ERROR)
    reason = (facts or {}).get("reason")
    fixed = {
        "detail": detail if len(detail) <= MAX_DETAIL else f"{detail[:MAX_DETAIL]}...",
        "type": f"urn:hugepool:errno:{errno}" if reason is None else f"/problems/{reason}",
        "title": TITLE.get(errno, errno),
        "status": int(status),
        "instance": quote(request.scope["path"][:MAX_INSTANCE]),
        "errno": errno,
        "errno_number": NUMBER.get(errno, 0),
    }
    body = {**fixed, **(facts or {}), **fixed}  # the fixed fields first, and as they are
    text = json.dumps(body, default=str)  # ASCII only: whatever a stranger sent can be sent back
    return Response(text, int(status), headers, media_type=PROBLEM_JSON)


def refusal(
    request: Request,
    error: Mapping[str, Any],
    result: Any,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The problem of a refusal that comes as data; ``result`` when changes are kept."""
    facts = dict(error.get("facts") or {})
    if error.get("reason") is not None:
        facts["reason"] = error["reason"]
    if error.get("summary") is not None:
        facts |= {"summary": error["summary"], "remedies": error["remedies"]}
    if result is not None:
        facts["result"] = to_jsonable_python(result)
    return problem(request, error["errno"], error["detail"], facts=facts, headers=headers)


# -- exceptions --------------------------------------------------------------------------------------------


def install(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    handlers: dict[Any, Any] = {
        MMError: _refused,
        PreconditionFailed: _other_revision,
        IdempotencyMismatch: _mismatch,
        StoreFailure: _unavailable,
        Damaged: _damaged,
        NoSuchJob: _no_such_job,
        NoRoom: _no_room,
        RequestValidationError: _invalid,
        HTTPException: _http,
        Exception: _bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _refused(request: Request, exc: MMError) -> Response:
    return refusal(request, exc.data(), None)


async def _other_revision(request: Request, exc: PreconditionFailed) -> Response:
    revision = exc.facts["revision"]
    return problem(
        request,
        ERRNO_OF_STATUS[HTTPStatus.PRECONDITION_FAILED],
        str(exc),
        status=HTTPStatus.PRECONDITION_FAILED,
        facts={"revision": revision},
        headers={"ETag": f'"{exc.revision.tag}"'},
    )


async def _unavailable(request: Request, exc: StoreFailure) -> Response:
    """Busy says what with; of a failing database the log has the story."""
    detail = str(exc)
    if not isinstance(exc, Busy):
        LOG.error("the database failed", exc_info=exc)
        detail = "the database cannot be used right now; nothing was kept"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return problem(request, ERRNO_OF_STATUS[status], detail, status=status, headers={"Retry-After": "1"})


async def _damaged(request: Request, exc: Damaged) -> Response:
    """Stored rows are not what was written: no answer is better than a wrong one."""
    LOG.error("%s", exc, exc_info=exc)
    return problem(request, "EIO", f"{exc}. Nothing was changed; hugepool check says what else is wrong")


async def _mismatch(request: Request, exc: IdempotencyMismatch) -> Response:
    errors = [{"field": "header Idempotency-Key", "message": str(exc)}]
    return problem(request, "EINVAL", str(exc), facts={"errors": errors})


async def _no_such_job(request: Request, exc: NoSuchJob) -> Response:
    detail = (
        f"no job {str(exc)[:80]!r}: it was deleted or ended too long ago, or the service was started anew since; "
        "jobs live in the memory of the process that began them"
    )
    return problem(request, "ENOENT", detail)


async def _no_room(request: Request, exc: NoRoom) -> Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return problem(request, ERRNO_OF_STATUS[status], str(exc), status=status, headers={"Retry-After": "10"})


async def _invalid(request: Request, exc: RequestValidationError) -> Response:
    found = describe(exc.errors(), exc.body, request.headers.get("content-type"))
    return problem(request, "EINVAL", found.detail, status=found.status, facts={"errors": found.errors})


async def _http(request: Request, exc: HTTPException) -> Response:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if exc.status_code == HTTPStatus.BAD_REQUEST else exc.status_code
    headers = dict(exc.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(methods_of(request))
    detail = str(exc.detail)
    if not isinstance(exc, BodyRefused):
        template = HTTP_DETAIL.get(HTTPStatus(status), detail)
        detail = template.format(method=request.method[:20], allow=headers.get("Allow"))
    errno = ERRNO_OF_STATUS.get(HTTPStatus(status), "EINVAL")
    return problem(request, errno, detail, status=status, headers=headers)


async def stopping(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a request that takes longer than a stopping service waits."""
    detail = "the service is stopping and waits no longer; a change is whole or absent: its host says which"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": "10", "Connection": "close"}
    answer = problem(Request(scope), ERRNO_OF_STATUS[status], detail, status=status, headers=headers)
    await answer(scope, receive, send)


async def _bug(request: Request, exc: Exception) -> Response:
    """A bug of hugepool: the server logs it with its cause."""
    del exc
    detail = "hugepool failed here, and its log says why; what was not stored yet was rolled back"
    return problem(request, "EIO", detail, headers={"Connection": "close"})  # as the server does after a bug
