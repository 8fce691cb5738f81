"""Reads through ``hugepool mount`` against plain GETs of the same file, in turn.

The host does not change meanwhile, as between two scrapes of a monitoring program: the mount asks for each read whether
its copy still holds, and gets 304.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from hugepool.mirror.mount import CannotMount, available
from tests.bench.machines import FREEING, bench
from tests.bench.report import Figure
from tests.bench.server import LOOPBACK, PATIENCE_SECONDS, serving
from tests.bench.wire import Wire, connected

READS, BATCH = 1000, 50  # a server hangs up on a connection that is idle for 5 s
FILES = ("proc/meminfo", "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def measure(*, quick: bool) -> Iterator[Figure]:
    """One figure a file; where nothing can be mounted, a line that says why."""
    try:
        available()
    except CannotMount as error:
        yield Figure("reads through the mount", f"not measured: {error}")
        return
    rounds = 1 if quick else 3
    with bench() as on, serving(on.database) as port, connected(port, 1) as wires:
        spec = {"cmdline": FREEING, "nodes": [{"memory": "16G", "cpus": 16}]}
        wires[0].ask("POST", "/v1/hosts", {"name": "lab", "spec": spec})
        with mounting(port, "lab") as folder:
            for name in FILES:
                yield _reads(wires[0], folder, name, rounds)


@contextmanager
def mounting(port: int, host: str) -> Iterator[Path]:
    """A running mount; ended, by its id, with the block."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "hugepool",
            "mount",
            "--url",
            f"http://{LOOPBACK}:{port}",
            host,
            folder,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "is mounted" not in line:
                raise RuntimeError(f"no mount: {line!r}")
            yield Path(folder)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _reads(wire: Wire, folder: Path, name: str, rounds: int) -> Figure:
    """A thousand reads each way, a batch of one and a batch of the other in turn; medians."""
    path, url = folder / name, f"/v1/hosts/lab/fs/{name}"
    if path.read_bytes() != wire.ask("GET", url):
        raise RuntimeError(f"{name} is not the same both ways")
    ways = {"mount": path.read_bytes, "get": lambda: wire.ask("GET", url)}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        took = dict.fromkeys(ways, 0.0)
        for _ in range(READS // BATCH):
            for way, read in ways.items():
                took[way] += _seconds(read)
        for way in ways:
            times[way].append(took[way])
    mount, get = median(times["mount"]), median(times["get"])
    shown = f"{mount * 1e3:.0f} / {get * 1e3:.0f} ms"
    return Figure(f"1,000 reads of /{name}, mount / GET", shown, mount / get, unit="x")


def _seconds(read: Callable[[], bytes]) -> float:
    began = time.perf_counter()
    for _ in range(BATCH):
        read()
    return time.perf_counter() - began
