"""A serving process, and Debian's chromium that Playwright drives.  Skipped, with the reason, where one is missing."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.harness import server
from tests.api.conftest import api, fresh_api

__all__ = ["api", "fresh_api"]
CHROMIUM = shutil.which("chromium")
WIDTHS = (390, 800, 1400)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000
OPTIMIZED = "hugetlb_free_vmemmap=on"


@contextmanager
def serving(folder: Path, port: int = 0, **settings: str) -> Iterator[httpx.Client]:
    """A process that serves hosts stored in a folder, until the block ends."""
    with (
        server.serving(folder, port, settings) as found,
        httpx.Client(base_url=found.url, timeout=60) as client,
    ):
        yield client


def boot(client: httpx.Client, name: str, kernel: str = "6.1", **labels: str) -> str:
    """A host of two nodes of 4 GiB, which gives vmemmap back; its address."""
    spec = {"kernel": kernel, "nodes": [{"memory": "4G"}, {"memory": "4G"}], "cmdline": OPTIMIZED}
    made = client.post("/v1/hosts", json={"name": name, "spec": spec, "labels": labels})
    assert made.status_code == 201, made.text
    return f"/v1/hosts/{name}"


def resize(client: httpx.Client, host: str, count: int) -> int:
    """Write a pool's size; the status of the answer."""
    path = f"/v1/hosts/{host}/hugepages/2048kB/nr_hugepages"
    return client.put(path, json={"count": count}).status_code


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A serving process with three hosts, of which one is stuck."""
    with serving(tmp_path_factory.mktemp("ui")) as client:
        for i, kernel in enumerate(("5.14", "6.1", "6.12")):
            boot(client, f"web-{i}", kernel, rack=str(i))
        assert resize(client, "web-1", 600) == 200
        client.put("/v1/hosts/web-1/faults/vmemmap-restore", json={})
        assert resize(client, "web-1", 0) == 507
        yield client


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One chromium for all tests."""
    if CHROMIUM is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make install")
    driver.expect.set_options(timeout=PATIENCE_MS)
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@contextmanager
def visit(
    browser: Any, origin: str, width: int = 1400, *, may_fail: str = "^$", **more: Any
) -> Iterator[Any]:
    """A page that fails the test for errors of its scripts, and for requests that leave its origin.

    ``may_fail``: pattern of the messages that the browser itself prints and that a test expects.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, base_url=origin, **more)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []

    def note(text: str) -> None:
        if not re.search(may_fail, text):
            wrong.append(text)

    opened.on("pageerror", lambda error: note(str(error)))
    opened.on("console", lambda message: note(message.text) if message.type == "error" else None)
    opened.on(
        "request",
        lambda asked: None if asked.url.startswith((origin, "blob:")) else note(f"asks {asked.url}"),
    )
    yield opened
    context.close()
    assert wrong == []


@pytest.fixture
def page(browser: Any, service: httpx.Client) -> Iterator[Any]:
    """A page of the service, 1400 pixels wide."""
    with visit(browser, str(service.base_url)) as opened:
        yield opened


def picture(page: Any, name: str) -> None:
    """Keep a picture as an artifact of a CI run that wants them."""
    folder = os.environ.get("CI_OUT")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def at_three_widths(page: Any, name: str) -> None:
    """Nothing is wider than the window, at three widths; with pictures."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, f"{name}-{width}")
