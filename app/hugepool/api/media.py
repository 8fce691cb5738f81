"""Which form of an answer a client wants, and the forms that are not JSON: CSV and lines of text."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response

JSON = "application/json"
CSV = "text/csv"
TEXT = "text/plain"


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
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(rows)
    return Response(text.getvalue(), headers=headers, media_type=f"{CSV}; charset=utf-8; header=present")
