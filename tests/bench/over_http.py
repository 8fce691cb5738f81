"""Over HTTP, on a real uvicorn: small resizes by size of host, and how fast a resource is read."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from tests.bench.machines import FREEING, bench
from tests.bench.report import Figure
from tests.bench.server import serving
from tests.bench.wire import Wire, burst, connected, request

STEP = 64
CONNECTIONS = 8
HOSTS = {"small": ("16G", 4_000), "large": ("1T", 400_000)}
READ = (
    ("GET hugepages/2048kB", "/v1/hosts/large/hugepages/2048kB"),
    ("GET host summary", "/v1/hosts/large"),
)


def measure(*, quick: bool) -> Iterator[Figure]:
    """All figures of one server."""
    with bench() as on, serving(on.database) as port, connected(port, CONNECTIONS) as wires:
        for name, (memory, _) in HOSTS.items():
            spec = {"cmdline": FREEING, "nodes": [{"memory": memory, "cpus": 64}]}
            wires[0].ask("POST", "/v1/hosts", {"name": name, "spec": spec})
        yield _resizes(wires[0], "empty pools", dict.fromkeys(HOSTS, 0), 30 if quick else 150)
        pools = {name: pool for name, (_, pool) in HOSTS.items()}
        yield _resizes(wires[0], "4,000 and 400,000 pages", pools, 30 if quick else 150)
        for words, path in READ:
            yield from _reads(wires, words, path, 10 if quick else 60)


def _resizes(wire: Wire, words: str, pools: dict[str, int], rounds: int) -> Figure:
    """64 pages more and 64 less, on one host and the other in turn."""
    times: dict[str, list[float]] = {name: [] for name in pools}
    for name, pool in pools.items():
        _resize(wire, name, pool)
    for i in range(-6, rounds):
        for name, pool in pools.items():
            took = _resize(wire, name, pool + STEP * (i % 2))
            if i >= 0:
                times[name].append(took)
    small, large = median(times["small"]), median(times["large"])
    shown = f"{large * 1e3:.2f} / {small * 1e3:.2f} ms"
    return Figure(f"64-page resize, 1 TiB / 16 GiB, {words}", shown, large / small, at_most=1.5, unit="x")


def _resize(wire: Wire, name: str, count: int) -> float:
    path = f"/v1/hosts/{name}/hugepages/2048kB/nr_hugepages"
    began = time.perf_counter()
    wire.ask("PUT", path, {"count": count})
    return time.perf_counter() - began


def _reads(wires: list[Wire], words: str, path: str, rounds: int) -> Iterator[Figure]:
    """Rates of a resource and of the bare routes that answer with the same bytes, in turn."""
    wires[0].ask("PUT", "/bare/content", wires[0].ask("GET", path))
    paths = {"resource": path, "coroutine": "/bare/coroutine", "thread": "/bare/thread"}
    rates: dict[str, list[float]] = {name: [] for name in paths}
    for i in range(-1, 9):
        for name, each in paths.items():
            took = burst(wires, request("GET", each), rounds)
            if i >= 0:
                rates[name].append(rounds * len(wires) / took)
    found: dict[str, Any] = {name: median(each) for name, each in rates.items()}
    for name, other in (("thread", "bare route"), ("coroutine", "bare coroutine")):
        yield Figure(
            f"{words} / {other}",
            f"{found['resource']:.0f} / {found[name]:.0f} a second",
            found["resource"] / found[name],
            at_least=0.5 if name == "thread" else None,
            unit="x",
        )
