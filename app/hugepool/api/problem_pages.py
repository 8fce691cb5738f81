"""/problems/{reason}: what a reason means, for people who follow the ``type`` of a problem."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from hugepool.api import media
from hugepool.api.documentation import problems
from hugepool.api.strict_query import StrictRoute
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.reasons import Reason

router = APIRouter(route_class=StrictRoute, prefix="/problems", tags=["service"])
HTML = "text/html"
ReasonInPath = Annotated[
    str, Path(description="A reason.", json_schema_extra={"enum": list(Reason)}, examples=["watermark"])
]
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{word} - hugepool</title>
<meta name="viewport" content="width=device-width"></head>
<body><h1><code>{word}</code></h1><p>{meaning}</p><p><a href="/docs">The interface of hugepool</a></p></body></html>
"""
SHOWN = {
    200: {
        "description": "What the reason means.",
        "content": {media.TEXT: {"schema": {"type": "string"}}, HTML: {"schema": {"type": "string"}}},
    },
    **problems(404, 422, 500, 503),
}


@router.get("/{reason}", response_class=PlainTextResponse, responses=SHOWN)
async def explain_reason(request: Request, reason: ReasonInPath) -> Response:
    """What a reason means, as a page or as plain text."""
    found = next((known for known in Reason if known == reason), None)
    if found is None:
        raise NotFound(f"there is no reason {reason[:80]!r}")
    if media.wanted(request, media.TEXT, HTML) == HTML:
        return HTMLResponse(PAGE.format(word=escape(found), meaning=escape(found.meaning)))
    return PlainTextResponse(f"{found}: {found.meaning}\n")
