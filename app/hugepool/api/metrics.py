"""Routes for Prometheus: metrics of all hosts, of one host as node_exporter names them, and where the hosts are."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import Metric

from hugepool.api.answers import document, service_of
from hugepool.api.documentation import problems
from hugepool.api.fields import HostInPath
from hugepool.api.fleet import which
from hugepool.api.routing import BlockingRoute
from hugepool.fs import exporter
from hugepool.service import Filter, Member

router = APIRouter(route_class=BlockingRoute, tags=["service"])
TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus' text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}
NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_]")


@router.get("/metrics", response_class=Response, responses={**TEXT, **problems(500, 503)})
def metrics(request: Request) -> Response:
    """Metrics of the service and of its hosts in Prometheus' text format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


# -- one host ----------------------------------------------------------------------------------------------


class _Collected:
    """Families as a registry that is asked once."""

    def __init__(self, found: exporter.Families) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """The families in the library's words."""
        for name, family in self._found.items():
            metric = Metric(name.removesuffix("_total"), family.about, family.kind)
            for labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


@router.get(
    "/v1/hosts/{host}/metrics",
    response_class=Response,
    responses={**TEXT, **problems(404, 422, 500, 503)},
    tags=["files"],
)
def host_metrics(request: Request, host: HostInPath) -> Response:
    """Metrics of one host under the names of node_exporter, made of the texts of its files."""
    texts, _ = service_of(request).read(host, exporter.texts)
    collected: Any = _Collected(exporter.families(texts))
    return Response(generate_latest(collected), media_type=CONTENT_TYPE_LATEST)


# -- where the hosts are -----------------------------------------------------------------------------------


@router.get("/discovery/prometheus", response_model=list[dict[str, Any]], responses=problems(422, 500, 503))
def discover(request: Request, wanted: Annotated[Filter, Depends(which)]) -> Response:
    """All hosts that a filter names as targets for `http_sd_configs` of Prometheus."""
    return document([_target(request, member) for member in service_of(request).all_members(wanted)])


def _target(request: Request, member: Member) -> dict[str, Any]:
    """A host at the address by which the caller reached this service; Prometheus scrapes it there."""
    labels = {
        "instance": member.name,
        "__scheme__": request.url.scheme,
        "__metrics_path__": f"/v1/hosts/{member.name}/metrics",
        "__meta_hugepool_host": member.name,
        "__meta_hugepool_kernel": member.kernel,
    }
    for key, value in member.labels.items():
        labels[f"__meta_hugepool_label_{NOT_IN_LABELS.sub('_', key)}"] = value
    return {"targets": [request.url.netloc], "labels": labels}
