"""Health, version, and the script that collects."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import Response

from hugepool.api.answers import document, service_of
from hugepool.api.documentation import problems
from hugepool.api.errors import problem
from hugepool.api.strict_query import StrictRoute
from hugepool.fs import collect
from hugepool.mm.machine.profile import PROFILES
from hugepool.service import Parts


@dataclass(frozen=True, slots=True)
class Live:
    """The process answers."""

    status: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True)
class Ready:
    """Every part is fit to work."""

    parts: Parts
    status: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True)
class Version:
    """What this service is.

    Attributes:
        kernels: the versions whose rules it knows.
    """

    name: str
    version: str
    kernels: list[str]


router = APIRouter(route_class=StrictRoute, tags=["service"])
VERSION = version("hugepool")
SCRIPT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/x-shellscript": {"schema": {"type": "string"}}}}
}


@router.get("/healthz/live", response_model=Live)
async def live() -> Response:
    """The process answers."""
    return document(Live())


@router.get("/healthz/ready", response_model=Ready, responses=problems(503))
async def ready(request: Request) -> Response:
    """Database, migrations and worker are fit to work, a write included; else 503 with what is not."""
    parts = await run_sync(
        service_of(request).ready, limiter=request.app.state.health, abandon_on_cancel=True
    )
    if not parts.unfit:
        return document(Ready(parts))
    detail = f"this service cannot work right now: {', '.join(parts.unfit)}"
    return problem(request, "EAGAIN", detail, status=503, facts={"parts": asdict(parts)})


@router.get("/version", response_model=Version)
async def show_version() -> Response:
    """Version of hugepool, and the kernels whose rules it knows."""
    return document(Version("hugepool", VERSION, list(PROFILES)))


@router.get("/collect.sh", response_class=Response, responses=SCRIPT)
async def collecting_script() -> Response:
    """A script for any POSIX shell that collects what an import needs, and needs no token itself."""
    return Response(collect.SCRIPT.read_bytes(), media_type="text/x-shellscript")
