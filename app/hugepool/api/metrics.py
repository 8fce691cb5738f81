"""/metrics for Prometheus: a registry per application, and gauges read from the hosts when asked."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from hugepool.mm.machine.errors import MMError
from hugepool.mm.views.gauges import Gauges, gauges
from hugepool.mm.views.host_view import HostRow
from hugepool.service import Busy, Service

MAX_HOSTS = 100  # the first by name: more would make more series than a scrape should have
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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


class HostCollector(Collector):
    """Gauges of the hosts, read through the service.

    A host is read again only when its revision changed since the scrape before.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: dict[str, _Seen] = {}

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not read the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The gauges now."""
        rows, more = self._service.list(MAX_HOSTS, None)
        seen = {}
        for row in rows:
            values = self._values(row)
            if values is not None:
                seen[row.name] = values
        self._seen = seen
        families = _families()
        for name, (_key, found) in seen.items():
            _fill(families, name, found)
        families["hosts"].add_metric([], len(rows))
        families["hosts_left_out"].add_metric([], 0 if more is None else 1)
        return families.values()

    def _values(self, row: HostRow) -> "_Seen | None":
        key = (row.created_at, row.revision)
        before = self._seen.get(row.name)
        if before is not None and before[0] == key:
            return before
        try:
            values, _ = self._service.read(row.name, gauges)
        except Busy:  # the scrape after this one finds out more
            return before
        except MMError:  # deleted meanwhile
            return None
        return key, values


_Seen = tuple[tuple[str | None, int], Gauges]  # (created_at, revision), and what was found then


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        "hugepages": GaugeMetricFamily(
            "hugepool_hugepages", "Huge pages by kind.", labels=("host", "size", "kind")
        ),
        "saved": GaugeMetricFamily(
            "hugepool_vmemmap_saved_bytes",
            "Memory that vmemmap freeing gave back, less its page tables.",
            labels=("host",),
        ),
        "deferred": GaugeMetricFamily(
            "hugepool_deferred_frees", "Huge pages that wait for the worker.", labels=("host",)
        ),
        "free": GaugeMetricFamily("hugepool_memory_free_bytes", "Free memory.", labels=("host",)),
        "total": GaugeMetricFamily("hugepool_memory_total_bytes", "Managed memory.", labels=("host",)),
        "hosts": GaugeMetricFamily("hugepool_hosts_shown", f"Hosts with series here, at most {MAX_HOSTS}."),
        "hosts_left_out": GaugeMetricFamily("hugepool_hosts_left_out", "1 when there are more hosts."),
    }


def _fill(families: dict[str, GaugeMetricFamily], host: str, values: Gauges) -> None:
    for size, kinds in values.hugepages.items():
        for kind, count in kinds.items():
            families["hugepages"].add_metric([host, size, kind], count)
    families["saved"].add_metric([host], values.vmemmap.bytes_saved)
    families["deferred"].add_metric([host], values.deferred)
    families["free"].add_metric([host], values.memory.free_bytes)
    families["total"].add_metric([host], values.memory.total_bytes)
