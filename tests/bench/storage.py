"""What a 64-page resize writes: bytes in the write-ahead log, by size of host and of pool."""

import sqlite3
from collections.abc import Iterator

from tests.bench.machines import GIB, TIB, Bench, bench
from tests.bench.report import Figure

STEP = 64
SIZES = (("16 GiB", 16 * GIB, 6_000), ("1 TiB", TIB, 400_000), ("16 TiB", 16 * TIB, 4_000_000))


def measure(*, quick: bool) -> Iterator[Figure]:
    """Each host with an empty and with a big pool; the ratio is to the smallest host, alike."""
    base: dict[str, int] = {}
    with bench() as on:
        for label, memory_bytes, big in SIZES[: 2 if quick else 3]:
            on.create(name := label.replace(" ", "-").lower(), memory_bytes)
            for words, pool in (("empty pool", 0), (f"{big:,} pages", big)):
                on.resize(name, pool)
                written = _written(on, name, pool)
                kind = "empty" if pool == 0 else "big"
                base.setdefault(kind, written)
                yield Figure(
                    f"64-page resize on {label}, {words}",
                    f"{written / 1024:.1f} KiB in the WAL",
                    written / base[kind],
                    at_most=1.5,
                    unit="x",
                )


def _written(on: Bench, name: str, pool: int) -> int:
    """Bytes that growing by 64 pages leaves in a log that was empty; the middle of five."""
    found = []
    for i in range(5):
        _empty_log(on)
        on.resize(name, pool + (i + 1) * STEP)
        found.append(on.wal.stat().st_size)
    return sorted(found)[len(found) // 2]


def _empty_log(on: Bench) -> None:
    with sqlite3.connect(on.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
