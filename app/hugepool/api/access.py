"""Around every request: whose token it brings, and whether that may do what is asked.

What is decided here needs no body: the token, the method, the address.  That a host may be changed is looked at once
more on the one road (``Service``), which also knows the names that stand in bodies.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hugepool.access import ANYBODY, Caller, Role, Tokens
from hugepool.api.errors import ERRNO_OF_STATUS, problem
from hugepool.service import Forbidden

REALM = 'Bearer realm="hugepool"'
MISSING = (
    "this service wants a token, as Authorization: Bearer TOKEN; hugepool's commands send HUGEPOOL_TOKEN"
)
UNKNOWN = "this service does not know the token"
# For who looks after the process and has no token; the page itself, which asks for one; the script of machines.
OPEN = ("/healthz/", "/ui/", "/collect.sh")
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]{1,500}=*)", re.IGNORECASE)
TRUE = frozenset(("true", "1", "yes", "on", "y", "t"))
# What is asked with POST and changes no host: read does for it.
QUESTION = re.compile(r"/v1/(?:what-if|hosts/[^/]+/plans/[^/]+|fleet/plans/[^/]+)")
JOB = re.compile(r"/v1/jobs/[^/]+")  # who may ask may also stop waiting
# What changes hosts whose names are in the body or the query: the road decides.
HOSTS = re.compile(r"/v1/(?:hosts(?:/import)?|fleet)")
HOST = re.compile(r"/v1/hosts/([^/]+)(?:/.*)?", re.DOTALL)


class Authorize:
    """Refuse a request without a known token (401), or with one that may not do this (403).

    Without ``tokens`` everybody may do everything.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None) -> None:
        self.app = app
        self.tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "http":
            caller = self._caller(scope)
            refusal = _refusal(Request(scope), caller)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller or ANYBODY
        await self.app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller | None:
        if self.tokens is None:
            return ANYBODY
        token = _token(scope)
        return None if token is None else self.tokens.find(token)


def caller_of(request: Request) -> Caller:
    """Who sent a request."""
    caller: Caller = request.state.caller
    return caller


async def not_on_this_road(request: Request, exc: Forbidden) -> Response:
    """The refusal of a change to a host whose name was not in the address."""
    needed = Role.WRITE
    host = None if exc.caller.role == Role.READ else exc.host
    return forbidden(request, exc.caller, needed, host)


def _token(scope: Scope) -> str | None:
    """The one bearer token of a request, or None."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    match = BEARER.fullmatch(given[0].decode("latin-1").strip()) if len(given) == 1 else None
    return None if match is None else match[1]


def _refusal(request: Request, caller: Caller | None) -> Response | None:
    path = request.scope["path"]
    if path.startswith(OPEN):
        return None
    if caller is None:
        return unauthorized(request)
    if request.method in SAFE or QUESTION.fullmatch(path) or JOB.fullmatch(path):
        return None
    return _refused_change(request, caller, path)


def _refused_change(request: Request, caller: Caller, path: str) -> Response | None:
    """A dry run of a change to hosts is a read; what is no change to hosts is for admins."""
    named = None if HOSTS.fullmatch(path) else HOST.fullmatch(path)
    if named is None and not HOSTS.fullmatch(path):
        return None if caller.role == Role.ADMIN else forbidden(request, caller, Role.ADMIN)
    if _is_dry_run(request):
        return None
    if caller.role == Role.READ:
        return forbidden(request, caller, Role.WRITE)
    if named is not None and not caller.may_change(named[1]):
        return forbidden(request, caller, Role.WRITE, host=named[1])
    return None


def _is_dry_run(request: Request) -> bool:
    """Whether all values that the query has for it say so."""
    given = parse_qs(request.scope["query_string"].decode("latin-1"), keep_blank_values=True).get(
        "dry_run", []
    )
    return bool(given) and all(value.lower() in TRUE for value in given)


def unauthorized(request: Request) -> Response:
    """401: there is no token that this service knows."""
    sent = "authorization" in request.headers
    detail = UNKNOWN if sent else MISSING
    error = ', error="invalid_token"' if sent else ""
    status = HTTPStatus.UNAUTHORIZED
    headers = {"WWW-Authenticate": REALM + error}
    return problem(request, ERRNO_OF_STATUS[status], detail, status=status, headers=headers)


def forbidden(request: Request, caller: Caller, needed: Role, host: str | None = None) -> Response:
    """403: the token is known and may not do this."""
    if host is None:
        detail = f"the token {caller.name!r} has the role {caller.role}; this takes {needed}"
        facts: Mapping[str, str] = {"role": caller.role, "needed": needed}
    else:
        detail = f"the token {caller.name!r} may change the hosts {caller.hosts}, not {host[:80]!r}"
        facts = {"role": caller.role, "hosts": caller.hosts, "host": host[:80]}
    headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{needed}"'}
    return problem(request, "EPERM", detail, facts=facts, headers=headers)
