"""Fragmented machines imported and stored, each in its own process.

As a program (``python -m tests.bench.imports PAGES FRAGMENTS``) it prints seconds and the peak of memory in bytes.
"""

import resource
import subprocess
import sys
from collections.abc import Iterator

from hugepool.fs.machine import read_machine
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.machine.state import Call
from hugepool.service import Terms
from tests.bench.machines import MIB, TIB, bench, seconds
from tests.bench.report import Figure
from tests.fs.machines import DMA, DMA32, ZoneOf, machine

LIMIT_MIB = 1024
PATIENCE_SECONDS = 600
SHARES = (10, 8, 6, 4, 2, 0.7, 0.2, 0.05, 0.01)  # of fragments by order
MACHINES = (("3 TiB, 31 million free fragments", 3 * TIB, 31_000_000, 3.0),
            ("128 GiB, 1.3 million free fragments", TIB // 8, 1_300_000, 1.0))  # fmt: skip


def measure(*, quick: bool) -> Iterator[Figure]:
    """By the engine alone and stored by the service, and the memory that either took at most."""
    for words, size, fragments, limit in MACHINES[1:] if quick else MACHINES:
        command = [sys.executable, "-m", "tests.bench.imports", str(size // 4096), str(fragments)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        engine, stored, peak = map(float, done.stdout.split())
        yield Figure(f"import of {words}, engine", f"{engine:.2f} s", engine, at_most=limit, unit=" s")
        yield Figure(f"import of {words}, durable", f"{stored:.2f} s", stored, at_most=limit, unit=" s")
        used = peak / MIB
        yield Figure(f"import of {words}, memory", f"{used:.0f} MiB", used, at_most=LIMIT_MIB, unit=" MiB")


def files(pages: int, fragments: int) -> dict[str, str]:
    """Two nodes with so many free blocks of orders 0 to 8."""
    share = fragments / 2 / sum(SHARES)
    free = *(int(share * part) for part in SHARES), pages >> 21, pages >> 17
    starts = ((1 << 20) + nid * (pages // 2) for nid in range(2))
    nodes = (
        ZoneOf(nid, "Normal", start, pages // 2, pages // 2, pages // 2 - pages // 100, free)
        for nid, start in enumerate(starts)
    )
    return machine((DMA, DMA32, *nodes))


def _main(pages: int, fragments: int) -> None:
    given = files(pages, fragments)
    engine = seconds(lambda: restore_machine(read_machine(given), Call()))
    with bench() as on:
        stored = seconds(lambda: on.service.create("machine", read_machine(given), Terms()))
    print(engine, stored, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
