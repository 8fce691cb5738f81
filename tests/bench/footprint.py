"""Memory of a loaded 1 TiB host, fully optimised: measured in its own process that loads it from its rows.

As a program (``python -m tests.bench.footprint FILE HOST trace|rss``) it prints the bytes that loading took.
"""

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from hugepool.mm.machine.units import ORDER_2M
from hugepool.service import Service
from tests.bench.machines import MIB, TIB, Bench, bench, settings_of
from tests.bench.report import Figure

LIMIT_MIB = 64
PAGES = 510_000  # almost all; 6.12 optimises a batch at its end and needs memory left for the page tables
PATIENCE_SECONDS = 60


def measure(*, quick: bool) -> Iterator[Figure]:
    """By tracemalloc and by resident memory; 6.12 stores every page table, 5.14 almost none."""
    with bench() as on:
        for kernel in ("5.14",) if quick else ("5.14", "6.12"):
            on.create(small := f"small-{kernel}", TIB // 64, kernel)
            on.create(name := f"full-{kernel}", TIB, kernel)
            on.resize(small, 4_000)
            on.resize(name, PAGES)
            pages = on.service.read(name, lambda host: host.hstates[ORDER_2M].nr_optimized)[0]
            for how, words in (("trace", "tracemalloc"), ("rss", "resident")):
                used = _used(on, name, how) / MIB
                yield Figure(
                    f"loaded 1 TiB host, kernel {kernel}, {words}",
                    f"{used:.1f} MiB, {pages:,} optimised",
                    used,
                    at_most=LIMIT_MIB,
                    unit=" MiB",
                )


def _used(on: Bench, name: str, how: str) -> int:
    command = [sys.executable, "-m", "tests.bench.footprint", str(on.database), name, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    return int(done.stdout)


def _resident() -> int:
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * 4096


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _main(database: str, name: str, how: str) -> None:
    service = Service(settings_of(Path(database)))
    service.read(name.replace("full", "small"), lambda _: None)  # what any first load brings with it
    if how == "trace":
        tracemalloc.start()
    use = _traced if how == "trace" else _resident
    gc.collect()
    before = use()
    service.read(name, lambda _: None)
    gc.collect()
    print(use() - before)
    service.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
