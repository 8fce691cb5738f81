"""The page: static files, a shell that has a table of hosts for who runs no scripts, and the way there from /."""

from html import escape
from importlib.resources import files

from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from hugepool.api import fleet_view, media
from hugepool.api.answers import document, service_of
from hugepool.service import Filter

router = APIRouter(include_in_schema=False)  # not strict: filters of the page are in its address
FOLDER = files("hugepool") / "ui"
HTML = "text/html"
SHOWN = 200  # hosts in the table without scripts
COLUMNS = ("name", "kernel", "size", "nr_hugepages", "free_hugepages", "surplus_hugepages", "states")
BASE = ("api", "dom")
MODULES = {  # of a page, fetched with it rather than one after the other
    "fleet": (*BASE, "fleet", "columns", "spark"),
    "host": (
        *BASE, "host", "chart", "jobs", "map", "nodes", "remedy", "scenario", "steps", "tasks", "trial", "try", "undo",
        "walk", "why",
    ),
    "forms": BASE,
}  # fmt: skip
INDEX = {
    "hosts": "/v1/hosts",
    "events": "/v1/events",
    "scenario_schema": "/v1/what-if/scenario.schema.json",
    "interface": "/openapi.json",
    "docs": "/docs",
    "collect": "/collect.sh",
    "page": "/ui/",
    "metrics": "/metrics",
    "version": "/version",
}


@router.get("/")
async def show_the_way(request: Request) -> Response:
    """People to the page, programs to an index."""
    if media.wanted(request, media.JSON, HTML) == HTML:
        return RedirectResponse("/ui/")
    return document(INDEX)


@router.get("/ui")
async def show_the_page() -> Response:
    """The page has its address with a slash."""
    return RedirectResponse("/ui/")


@router.get("/ui/")
async def show_fleet(request: Request) -> Response:
    """The page of all hosts.  What it shows without scripts is a table; with tokens that is empty."""
    return HTMLResponse(_shell("fleet", await run_sync(_table, request)))


@router.get("/ui/hosts/{name}")
async def show_host(name: str) -> Response:
    """The page of one host, which scripts fill."""
    del name
    return _for_scripts("host")


@router.get("/ui/compare")
@router.get("/ui/plans")
@router.get("/ui/import")
async def show_forms() -> Response:
    """Pages of forms, which scripts fill."""
    return _for_scripts("forms")


def serve_assets(app: FastAPI) -> None:
    """Serve the files of the page."""
    app.mount("/ui/assets", StaticFiles(directory=str(FOLDER)), name="ui")


def _for_scripts(page: str) -> Response:
    return HTMLResponse(_shell(page, "<noscript><p>This page needs scripts.</p></noscript>"))


def _shell(page: str, content: str) -> str:
    links = (f'<link rel="modulepreload" href="/ui/assets/{name}.js">' for name in MODULES[page])
    text = (FOLDER / "index.html").read_text().replace("<!-- table -->", content)
    return text.replace("<!-- modules -->", "\n".join(links))


def _table(request: Request) -> str:
    if request.app.state.tokens is not None:
        return "<noscript><p>This page needs scripts, since the service wants a token.</p></noscript>"
    members, _ = service_of(request).members(Filter(), None, SHOWN)
    rows = fleet_view.fleet_rows([shown for shown in map(fleet_view.summary, members) if shown])
    picked = [fleet_view.FLEET_COLUMNS.index(name) for name in COLUMNS]
    head = "".join(f"<th scope=col>{name}</th>" for name in COLUMNS)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(str(row[i]))}</td>" for i in picked) + "</tr>" for row in rows
    )
    return f"<noscript><div class='card scroll'><table><tr>{head}</tr>{lines}</table></div></noscript>"
