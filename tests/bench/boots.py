"""Booting 16 TiB: the engine alone, and stored by the service."""

from collections.abc import Iterator

from hugepool.mm.boot.boot import boot
from hugepool.mm.machine.state import Call
from tests.bench.machines import TIB, bench, machine, seconds
from tests.bench.report import Figure

LIMIT_SECONDS = 2.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Both ways, the best of a few."""
    rounds = range(1 if quick else 3)
    spec = machine(16 * TIB)
    engine = min(seconds(lambda: boot(spec, Call())) for _ in rounds)
    yield Figure("boot of 16 TiB, engine", f"{engine:.2f} s", engine, at_most=LIMIT_SECONDS, unit=" s")
    with bench() as on:
        on.create("warm", TIB)
        stored = min(seconds(lambda i=i: on.create(f"host-{i}", 16 * TIB)) for i in rounds)  # type: ignore[misc]
    yield Figure("boot of 16 TiB, durable", f"{stored:.2f} s", stored, at_most=LIMIT_SECONDS, unit=" s")
