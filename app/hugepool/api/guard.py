"""Who may speak with the service from a browser: none but its own pages and the origins that are set.

A page of any other site can make a browser send requests here, and a name that leads to this machine can make such a
page look like ours (DNS rebinding).  So: `Host` has to be a name of ours (421), `Origin` and `Sec-Fetch-Site` must
not be foreign on methods that change something (403), and no body that a plain form could send is read (415).
"""

import ipaddress
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hugepool.api.errors import problem
from hugepool.settings import Settings

SAFE = {"GET", "HEAD", "OPTIONS"}
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}  # what needs no permission
PORTS = {"http": "80", "https": "443"}
MAX_KNOWN = 1000
LOCAL_NAMES = ("localhost", "*.localhost")
PAGE = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
SECURITY = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
FOR_PAGES = [*SECURITY[:-1], (SECURITY[-1][0], PAGE.encode())]


class Guard:
    """Refuse what a foreign page could have sent; say in every answer what a browser may do with it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._names = {name_of(settings.host)}
        self._patterns = (*LOCAL_NAMES, *(name.lower() for name in settings.allowed_hosts))
        self._known: set[tuple[bytes, Any]] = set()
        self._origins = {origin.lower().rstrip("/") for origin in settings.cors_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        refused = self._why_not(scope)
        if refused is None:
            await self.app(scope, receive, guarded)
            return
        status, errno, detail = refused
        answer = problem(Request(scope), errno, detail, status=status)
        await answer(scope, receive, guarded)

    def _why_not(self, scope: Scope) -> tuple[HTTPStatus, str, str] | None:
        sent = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}
        place = sent.get(b"host", b""), scope.get("server")
        if scope["method"] in SAFE and place in self._known:
            return None
        headers = {name: value.decode("latin-1").lower() for name, value in sent.items()}
        return self._host_refused(scope, place, headers) or self._change_refused(scope, headers)

    def _host_refused(
        self, scope: Scope, place: tuple[bytes, Any], headers: dict[bytes, str]
    ) -> tuple[HTTPStatus, str, str] | None:
        """That a name is ours is looked up once: it comes with every request."""
        host = headers.get(b"host", "")
        if self._is_ours(name_of(host), scope):
            if len(self._known) < MAX_KNOWN:
                self._known.add(place)
            return None
        shown = host[:80]
        detail = f"{shown!a} is no name of this service; HUGEPOOL_ALLOWED_HOSTS lists further ones for `Host`"
        return HTTPStatus.MISDIRECTED_REQUEST, "EHOSTUNREACH", detail

    def _change_refused(self, scope: Scope, headers: dict[bytes, str]) -> tuple[HTTPStatus, str, str] | None:
        if scope["method"] in SAFE:
            return None
        if not self._may_change(headers, headers.get(b"host", "")):
            detail = (
                "a page of another origin may change nothing here; HUGEPOOL_CORS_ORIGINS lists those that may"
            )
            return HTTPStatus.FORBIDDEN, "EACCES", detail
        sent = headers.get(b"content-type", "").partition(";")[0].strip()
        if scope["method"] == "POST" and sent in FORMS:
            detail = f"a POST must be JSON (Content-Type: application/json) or an archive, not {sent}"
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "EINVAL", detail
        return None

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._names or any(fnmatchcase(name, pattern) for pattern in self._patterns):
            return True
        address = _address(name)
        if address is None:
            return False
        here = _address((scope.get("server") or ("",))[0])
        return address.is_loopback or address == here

    def _may_change(self, headers: dict[bytes, str], host: str) -> bool:
        origin = headers.get(b"origin")
        if origin is not None:
            return origin in self._origins or _place(origin) == _place(
                f"{origin.partition('://')[0]}://{host}"
            )
        return headers.get(b"sec-fetch-site") != "cross-site"


_LOOKED_AT = {b"host", b"origin", b"sec-fetch-site", b"content-type"}


def name_of(host: str) -> str:
    """The name of ``name:port`` or ``[address]:port``, without a dot at its end."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name = host if host.count(":") > 1 else host.partition(":")[0]
    return name.lower().removesuffix(".")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _place(origin: str) -> tuple[str, str]:
    """Name and port of an origin.  The scheme may differ: a proxy in front speaks TLS, this service does not."""
    scheme, _, rest = origin.partition("://")
    port = rest.rpartition("]")[2].partition(":")[2]
    return name_of(rest), port or PORTS.get(scheme, "")


def _add_headers(message: Message) -> None:
    """Add what an answer does not say itself; the policy of a page is another one than that of data."""
    given = dict(message.get("headers", ()))
    page = given.get(b"content-type", b"").startswith(b"text/html")
    added = [header for header in (FOR_PAGES if page else SECURITY) if header[0] not in given]
    message["headers"] = [*message.get("headers", ()), *added]


def reaches_beyond(host: str) -> bool:
    """Whether others than this machine can reach a service that listens on an address."""
    address = _address(name_of(host))
    return not (address.is_loopback if address is not None else name_of(host) == "localhost")
