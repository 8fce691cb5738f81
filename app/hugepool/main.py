"""The application: its parts put together, and its life."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from hugepool.access import Tokens
from hugepool.api import (
    cgroups,
    contig_ranges,
    deferred_frees,
    errors,
    faults,
    feed,
    files,
    fleet,
    fleet_plans,
    history,
    hosts,
    hugepages,
    hugetlbfs,
    jobs,
    memory_blocks,
    memory_map,
    metrics,
    operations,
    plans,
    problem_pages,
    snapshots,
    states,
    tasks,
    ui,
    virtio_mem,
    vmemmap,
    what_if,
)
from hugepool.api.access import Authorize, not_on_this_road
from hugepool.api.collectors import HostCollector, RequestMetrics
from hugepool.api.documentation import TAGS, serve_docs
from hugepool.api.event_stream import Streams
from hugepool.api.guard import Guard
from hugepool.api.methods import HeadAndOptions
from hugepool.api.middleware import BodyLimits, CountRequests
from hugepool.api.routing import HostGates
from hugepool.api.schema import DocumentedAPI
from hugepool.initial import make_hosts
from hugepool.jobs import Board, Limits
from hugepool.service import Forbidden, Service
from hugepool.settings import Settings
from hugepool.whatif import NEEDED
from hugepool.worker import DeferredFreeWorker, Housekeeper

ABOUT = """Simulates one Linux host's hugetlb pool, page by page: vmemmap freeing, fault injection, audits.

Every change is answered when it is durable.  Answers carry `ETag: "<revision>"`; send it back as `If-Match`
to change only what you have seen.  Refusals are `application/problem+json` with the kernel's errno.
"""
ROUTERS = (  # an address is looked for in this order: what is asked most comes first
    hugepages,
    hosts,
    snapshots,
    states,
    files,
    fleet,
    fleet_plans,
    feed,
    memory_blocks,
    contig_ranges,
    virtio_mem,
    tasks,
    cgroups,
    hugetlbfs,
    vmemmap,
    memory_map,
    deferred_frees,
    faults,
    history,
    what_if,
    plans,
    jobs,
    problem_pages,
    ui,
    metrics,
    operations,
)
ARCHIVES_READ_BY = "hugepool.fs.apart"
GZIP_FROM_BYTES, GZIP_LEVEL = (
    2048,
    4,
)  # below, a packet is sent either way; above level 4 it costs more than it saves
HEALTH_THREADS = 2  # of their own: who asks for health is answered whatever the others wait for
CORS: dict[str, Any] = {
    "allow_methods": ("GET", "POST", "PUT", "PATCH", "DELETE"),
    "allow_headers": (
        "Authorization",
        "Content-Type",
        "If-Match",
        "If-None-Match",
        "Idempotency-Key",
        "Prefer",
    ),
    "expose_headers": (
        "ETag",
        "Location",
        "Retry-After",
        "Idempotent-Replay",
        "Hugepool-Outcome",
        "Preference-Applied",
    ),
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """A service that is ready to be served; nothing is opened before it starts."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        await run_sync(service.start)
        await run_sync(make_hosts, service, settings.init_dir)
        worker, housekeeper = DeferredFreeWorker(service), Housekeeper(service)
        try:
            housekeeper.start()
            if settings.worker_enabled:
                await worker.start()
            yield
        finally:
            await housekeeper.stop()
            await worker.stop()
            await run_sync(board.close)
            await run_sync(service.close)

    service, board = Service(settings), Board(_limits(settings), (*NEEDED, ARCHIVES_READ_BY))
    app = DocumentedAPI(
        title="hugepool",
        version=operations.VERSION,
        description=ABOUT,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(service, settings.metrics_hosts))
    app.state.jobs, app.state.gates = board, HostGates(settings)
    app.state.health = CapacityLimiter(HEALTH_THREADS)
    app.state.tokens = None if settings.tokens_file is None else Tokens(settings.tokens_file)
    app.state.service, app.state.registry, app.state.streams = service, registry, Streams()
    for module in ROUTERS:
        app.add(module.router)
    serve_docs(app)
    ui.serve_assets(app)
    errors.install(app)
    app.add_exception_handler(Forbidden, not_on_this_road)  # type: ignore[arg-type]
    app.add_middleware(HeadAndOptions)
    app.add_middleware(BodyLimits, settings=settings)
    app.add_middleware(Authorize, tokens=app.state.tokens)
    if settings.cors_origins:  # outside of it: a browser's preflight brings no token
        app.add_middleware(CORSMiddleware, **CORS, allow_origins=settings.cors_origins)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=GZIP_LEVEL)
    app.add_middleware(CountRequests, metrics=RequestMetrics(registry), cut=errors.stopping)
    return app


def _limits(settings: Settings) -> Limits:
    return Limits(
        workers=settings.job_workers,
        at_once=settings.jobs_at_once,
        unfinished=settings.jobs_unfinished,
        each=settings.jobs_per_token,
        held_bytes=settings.max_body_bytes,
        kept=settings.jobs_kept,
        kept_seconds=settings.job_kept_seconds,
        seconds=settings.job_seconds,
    )


def _operation_id(route: APIRoute) -> str:
    return route.name
