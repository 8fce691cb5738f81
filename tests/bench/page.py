"""The page in Debian's chromium: how long until the table of hosts is drawn, and what all its files weigh."""

import importlib
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.machines import bench
from tests.bench.report import Figure
from tests.bench.server import LOOPBACK, serving
from tests.bench.wire import connected

LIMIT_MS = 300
LIMIT_KIB = 200
FLEETS = (100, 2000)
AT_ONCE = 1000  # hosts that one request makes
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DRAWN = "() => performance.getEntriesByName('fleet-painted').map((mark) => mark.startTime)"


def measure(*, quick: bool) -> Iterator[Figure]:
    """The time for some fleets; where there is no browser, a line that says so."""
    folder = Path(str(files("hugepool") / "ui"))
    weight = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1024
    yield Figure("all files of the page", f"{weight:.0f} KiB", weight, at_most=LIMIT_KIB, unit=" KiB")
    try:
        driver: Any = importlib.import_module("playwright.sync_api")
    except ImportError as error:
        yield Figure("first paint of the fleet", f"not measured: {error}")
        return
    chromium = shutil.which("chromium")
    if chromium is None:
        yield Figure("first paint of the fleet", "not measured: there is no chromium")
        return
    with (
        bench() as on,
        serving(on.database) as port,
        driver.sync_playwright() as run,
    ):
        browser = run.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        there = 0
        for hosts in FLEETS[: 1 if quick else None]:
            _boot(port, there, hosts)
            there = hosts
            taken = median(_visit(browser, port) for _ in range(3 if quick else 7))
            limit = LIMIT_MS if hosts == FLEETS[0] else None
            name = f"first paint of a fleet of {hosts:,} hosts"
            yield Figure(name, f"{taken:.0f} ms", taken, at_most=limit, unit=" ms")
        browser.close()


def _boot(port: int, first: int, last: int) -> None:
    spec = {"kernel": "6.1", "nodes": [{"memory": "256M"}]}
    for begin in range(first, last, AT_ONCE):
        count = min(AT_ONCE, last - begin)
        entry = {"name": "host-{i}", "first": begin, "count": count, "spec": spec}
        with connected(port, 1) as wires:
            wires[0].ask("POST", "/v1/fleet", {"hosts": [entry]})


def _visit(browser: Any, port: int) -> float:
    """Milliseconds of one visit with an empty cache."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"http://{LOOPBACK}:{port}/ui/")
    page.locator("tbody tr").first.wait_for()
    drawn: list[float] = page.evaluate(DRAWN)
    while not drawn:
        drawn = page.evaluate(DRAWN)
    page.close()
    return drawn[0]
