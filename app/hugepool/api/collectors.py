"""What /metrics has: answers of the service, and gauges of its hosts.

The gauges come out of the newest figures of each host, so no host is loaded for them.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from hugepool.fs.figures import STATES, Figures, PoolFigures, states
from hugepool.mm.machine.units import PAGE_SIZE, size_name
from hugepool.service import Filter, Member, Service

METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


# -- the service's own -------------------------------------------------------------------------------------


class RequestMetrics:
    """Answers by route, method and status, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "hugepool_http_requests_total",
            "Answers by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "hugepool_http_request_seconds",
            "Time to the first byte of an answer.",
            ("route",),
            buckets=BUCKETS,
            registry=registry,
        )

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer.  An address that is no route counts as ``none``, an odd method as ``other``."""
        route = getattr(scope.get("route"), "path", None) or "none"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._count.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)


# -- all hosts ---------------------------------------------------------------------------------------------


class HostCollector(Collector):
    """Gauges of the first ``most`` hosts by name, and how many there are besides."""

    def __init__(self, service: Service, most: int) -> None:
        self._service = service
        self._most = most

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not read the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The gauges now."""
        members, _ = self._service.members(Filter(), None, self._most) if self._most else ([], None)
        left_out = max(0, self._service.nr_hosts() - len(members))
        found = [(member, member.figures) for member in members if member.figures is not None]
        families = {name: GaugeMetricFamily(name, about, labels=labels) for name, labels, about in FAMILIES}
        for name, labels, value in _host_samples(found):
            families[name].add_metric(labels, value)
        families["hugepool_hosts"].add_metric(["yes"], len(found))
        families["hugepool_hosts"].add_metric(["no"], left_out)
        return families.values()


FAMILIES = (
    (
        "hugepool_hugepages",
        ("host", "node", "size", "state"),
        "Huge pages of a node: free and in_use are all of them, surplus counts some again; reserved is of a host.",
    ),
    ("hugepool_hugepages_max", ("host", "size"), "The persistent pool size: all huge pages less surplus."),
    ("hugepool_hugepages_asked", ("host", "size"), "The persistent pool size that was last asked for."),
    ("hugepool_hugepages_overcommit", ("host", "size"), "Surplus huge pages that may be made on demand."),
    (
        "hugepool_memory_bytes",
        ("host", "node", "kind"),
        "Memory of a node: total and free; available is of a host.",
    ),
    ("hugepool_vmemmap_saved_bytes", ("host",), "What vmemmap freeing gave back, less its page tables."),
    ("hugepool_vmemmap_page_table_bytes", ("host",), "Page tables of split vmemmap sections."),
    ("hugepool_vmemmap_freeing", ("host",), "1: new huge pages give their vmemmap back."),
    ("hugepool_deferred_frees", ("host",), "Huge pages that wait for the worker."),
    ("hugepool_faults_armed", ("host",), "Fault points that can still fail a request."),
    ("hugepool_host_state", ("host", "state"), "1: somebody should look at the host for this reason."),
    ("hugepool_host_revision", ("host",), "Changes that the host has seen."),
    ("hugepool_host_info", ("host", "kernel"), "Always 1."),
    ("hugepool_hosts", ("included",), "Hosts with series here, and those left out by HUGEPOOL_METRICS_HOSTS."),
)  # fmt: skip
Sample = tuple[str, list[str], float]


def _host_samples(found: Iterable[tuple[Member, Figures]]) -> Iterator[Sample]:
    for member, figures in found:
        host = member.name
        yield "hugepool_host_info", [host, member.kernel], 1
        yield "hugepool_host_revision", [host], member.revision
        yield "hugepool_vmemmap_saved_bytes", [host], figures.saved_pages * PAGE_SIZE
        yield "hugepool_vmemmap_page_table_bytes", [host], figures.table_pages * PAGE_SIZE
        yield "hugepool_vmemmap_freeing", [host], figures.vmemmap_freeing
        yield "hugepool_deferred_frees", [host], figures.queued
        yield "hugepool_faults_armed", [host], figures.faults_armed
        yield "hugepool_memory_bytes", [host, "", "available"], figures.available_pages * PAGE_SIZE
        there = states(figures)
        for state in STATES:
            yield "hugepool_host_state", [host, state], state in there
        for index, pool in enumerate(figures.pools):
            yield from _pool_samples(host, figures, index, pool)
        for node in figures.nodes:
            yield "hugepool_memory_bytes", [host, str(node.nid), "total"], node.total_pages * PAGE_SIZE
            yield "hugepool_memory_bytes", [host, str(node.nid), "free"], node.free_pages * PAGE_SIZE


def _pool_samples(host: str, figures: Figures, index: int, pool: PoolFigures) -> Iterator[Sample]:
    size = size_name(pool.order)
    yield "hugepool_hugepages_max", [host, size], pool.max
    yield "hugepool_hugepages_asked", [host, size], pool.asked
    yield "hugepool_hugepages_overcommit", [host, size], pool.overcommit
    yield "hugepool_hugepages", [host, "", size, "reserved"], pool.resv
    for node in figures.nodes:
        part, nid = node.pools[index], str(node.nid)
        yield "hugepool_hugepages", [host, nid, size, "free"], part.free
        yield "hugepool_hugepages", [host, nid, size, "in_use"], part.nr - part.free
        yield "hugepool_hugepages", [host, nid, size, "surplus"], part.surplus
