"""Which form of an answer a client wants, and the forms that are not JSON: CSV and lines of text."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic_core import from_json

from hugepool import tables

JSON = "application/json"
CSV = "text/csv"
TEXT = "text/plain"
OF_BODY = ("content-length", "content-type")


def wanted(request: Request, *offered: str) -> str:
    """The first of the offered types that Accept puts first; the first offered one when it fits none."""
    for part in _by_preference(request.headers.get("accept", "")):
        for kind in offered:
            if part in {kind, f"{kind.partition('/')[0]}/*", "*/*"}:
                return kind
    return offered[0]


def _by_preference(accept: str) -> list[str]:
    """Media ranges of an Accept header, the most wanted first.  Source: RFC 9110 section 12.5.1."""
    found: list[tuple[float, str]] = []
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            found.append((float(weight), kind))
        except ValueError:
            found.append((0.0, kind))
    return [kind for weight, kind in sorted(found, key=lambda each: -each[0]) if weight > 0]


def as_csv(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], headers: dict[str, str] | None = None
) -> Response:
    """A table as RFC 4180 says: a header row, CRLF, an empty field for null."""
    return _csv(tables.Table(list(columns), [list(row) for row in rows]), headers)


def _csv(table: tables.Table, headers: dict[str, str] | None) -> Response:
    return Response(tables.as_csv(table), headers=headers, media_type=f"{CSV}; charset=utf-8; header=present")


def as_wanted(request: Request, response: Response) -> Response:
    """A JSON answer in the form that the client puts first: JSON, CSV or lines of text.  Others are left alone."""
    if response.media_type != JSON or response.status_code != HTTPStatus.OK:
        return response
    response.headers.setdefault("Vary", "Accept")
    kind = wanted(request, JSON, CSV, TEXT)
    if kind == JSON:
        return response
    document = from_json(bytes(response.body))
    headers = {name: value for name, value in response.headers.items() if name not in OF_BODY}
    cursor = document.get("next_cursor") if isinstance(document, dict) else None
    if cursor is not None:
        headers["Link"] = f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'
    if kind == CSV:
        return _csv(tables.of_answer(document), headers)
    return Response(tables.as_lines(document), headers=headers, media_type=TEXT)
