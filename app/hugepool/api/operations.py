"""Health, version, metrics."""

from importlib.metadata import version

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hugepool.api import activity_schemas
from hugepool.api.answers import document, service_of
from hugepool.api.documentation import problems
from hugepool.api.errors import problem
from hugepool.api.strict_query import StrictRoute
from hugepool.mm.machine.profile import PROFILES

router = APIRouter(route_class=StrictRoute, tags=["service"])
VERSION = version("hugepool")


@router.get("/healthz/live", response_model=activity_schemas.Live)
async def live() -> Response:
    """The process answers."""
    return document({"status": "ok"})


@router.get("/healthz/ready", response_model=activity_schemas.Ready, responses=problems(503))
async def ready(request: Request) -> Response:
    """Database, migrations and worker are fit to work, a write included; else 503 with what is not."""
    parts = await run_sync(
        service_of(request).ready, limiter=request.app.state.health, abandon_on_cancel=True
    )
    wrong = [name for name, part in parts.items() if not part["ok"]]
    if not wrong:
        return document({"status": "ok", "parts": parts})
    detail = f"this service cannot work right now: {', '.join(wrong)}"
    return problem(request, "EAGAIN", detail, status=503, facts={"parts": parts})


@router.get("/version", response_model=activity_schemas.Version)
async def show_version() -> Response:
    """Version of hugepool, and the kernels whose rules it knows."""
    return document({"name": "hugepool", "version": VERSION, "kernels": list(PROFILES)})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
