"""A large pool made, read back and given up: 500,000 pages with vmemmap freeing on a 1 TiB host."""

from collections.abc import Iterator

from hugepool.mm.commands.commands import CreateTask
from hugepool.mm.machine.units import PAGE_SIZE
from hugepool.service import Service, Terms
from tests.bench.machines import GIB, NS_PER_PAGE, TIB, Bench, bench, seconds, settings_of
from tests.bench.report import Figure

PAGES = 500_000


def measure(*, quick: bool) -> Iterator[Figure]:
    """The growth against the kernel's own time, its scaling, and what comes after it."""
    rounds = 2 if quick else 5
    with bench() as on:
        on.create("warm", 16 * GIB)
        on.resize("warm", 1000)
        half, whole = _grow(on, PAGES // 2, rounds), _grow(on, PAGES, rounds)
        kernel = PAGES * NS_PER_PAGE / 1e9
        yield Figure(
            "grow 0 -> 500,000 pages, 1 TiB, durable",
            f"{whole * 1e3:.0f} ms; kernel {kernel:.1f} s",
            kernel / whole,
            at_least=20,
            unit="x",
        )
        yield Figure(
            "the same, the aim", f"{whole / PAGES * 1e6:.2f} us a page", kernel / whole, at_least=80, unit="x"
        )
        yield Figure(
            "N = 250,000 -> 2N",
            f"{half * 1e3:.0f} -> {whole * 1e3:.0f} ms",
            whole / half,
            at_most=2.2,
            unit="x",
        )
        yield from _afterwards(on)
        yield from _under_cache(on, rounds)


def _under_cache(on: Bench, rounds: int) -> Iterator[Figure]:
    """The same growth where all memory is clean page cache, in turn with one in free memory; kernels of both ways."""
    for kernel in ("5.14", "6.12"):
        free = cached = float("inf")
        for i in range(rounds):
            free = min(free, _once(on, f"free-{kernel}-{i}", kernel, 0))
            cached = min(cached, _once(on, f"cache-{kernel}-{i}", kernel, TIB // PAGE_SIZE))
        yield Figure(
            f"grow to 500,000 pages, 1 TiB, {kernel}: page cache / free memory",
            f"{cached * 1e3:.0f} / {free * 1e3:.0f} ms",
            cached / free,
            at_most=3,
            unit="x",
        )


def _grow(on: Bench, pages: int, rounds: int) -> float:
    """The best of some rounds, each on a freshly booted host."""
    best = float("inf")
    for i in range(rounds):
        name = f"grow-{pages}-{i}"
        on.create(name, TIB)
        best = min(best, seconds(lambda name=name: on.resize(name, pages)))  # type: ignore[misc]
    return best


def _afterwards(on: Bench) -> Iterator[Figure]:
    name = f"grow-{PAGES}-0"
    on.service.close()
    fresh = Service(settings_of(on.database))
    try:
        fresh.read(f"grow-{PAGES}-1", lambda _: None)
        load = seconds(lambda: fresh.read(name, lambda _: None))
    finally:
        fresh.close()
    yield Figure("load of that host from its rows", f"{load * 1e3:.0f} ms")
    yield Figure("shrink of that pool to 0, durable", f"{seconds(lambda: on.resize(name, 0)) * 1e3:.0f} ms")


def _once(on: Bench, name: str, kernel: str, cache_pages: int) -> float:
    """One growth on a host of its kind, which is gone afterwards."""
    on.create(name, TIB, kernel)
    if cache_pages:
        on.service.execute(name, CreateTask("cache", pages=cache_pages), Terms())
    took = seconds(lambda: on.resize(name, PAGES))
    on.service.delete(name, Terms())
    return took
