"""What-if questions over HTTP: 64 variants of a 1 TiB host, and how soon others are answered meanwhile."""

import json
import threading
import time
from collections.abc import Iterator
from statistics import median, quantiles
from typing import Any

from tests.bench.machines import FREEING, bench
from tests.bench.report import Figure
from tests.bench.server import serving
from tests.bench.wire import Wire, connected

VARIANTS = 64
READ = "/v1/hosts/large"
PAUSE_SECONDS = 0.02  # a dashboard that asks often


def measure(*, quick: bool) -> Iterator[Figure]:
    """All figures of one server."""
    count = 16 if quick else VARIANTS
    with bench() as on, serving(on.database) as port, connected(port, 2) as wires:
        spec = {"kernel": "6.12", "cmdline": FREEING, "nodes": [{"memory": "512G", "cpus": 32}] * 2}
        wires[0].ask("POST", "/v1/hosts", {"name": "large", "spec": spec})
        idle = [_read(wires[1]) for _ in range(100 if quick else 400)]
        took, meanwhile = _asked(wires, count)
    shown = (
        f"{_ms(median(meanwhile))} / {_ms(median(idle))}, 95 %: {_ms(_p95(meanwhile))} / {_ms(_p95(idle))}"
    )
    yield Figure(f"{count} variants of a 1 TiB host, four steps each", f"{took:.1f} s")
    yield Figure("GET host summary meanwhile / before", shown, median(meanwhile) / median(idle), unit="x")


def _asked(wires: list[Wire], count: int) -> tuple[float, list[float]]:
    """Ask, and read something else until the answer is there: how long that took, and each read."""
    question: dict[str, Any] = {
        "host": "large",
        "steps": [
            {"resize": {"count": 1000}},
            {"task": {"kind": "hugetlb", "count": 500, "touch": 500}, "label": "vm"},
            {"resize": {"count": 0}},
            {"exit": "vm"},
        ],
        "variants": {"grid": {"steps.0.resize.count": [2000 * i for i in range(1, count + 1)]}},
    }
    answered: list[float] = []

    def ask() -> None:
        answer = json.loads(wires[0].ask("POST", "/v1/what-if", question))
        while answer.get("ended_at", "") is None:  # a job
            time.sleep(PAUSE_SECONDS)
            answer = json.loads(wires[0].ask("GET", f"/v1/jobs/{answer['id']}"))
        answered.append(time.perf_counter() - began)

    began = time.perf_counter()
    asking = threading.Thread(target=ask)
    asking.start()
    reads = []
    while asking.is_alive():
        reads.append(_read(wires[1]))
        time.sleep(PAUSE_SECONDS)
    asking.join()
    return answered[0], reads


def _read(wire: Wire) -> float:
    began = time.perf_counter()
    wire.ask("GET", READ)
    return time.perf_counter() - began


def _p95(times: list[float]) -> float:
    return quantiles(times, n=20)[-1]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
