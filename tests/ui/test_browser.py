"""The page in a real browser: Debian's chromium, driven by Playwright.  Skipped where one of them is missing."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

CHROMIUM = shutil.which("chromium")
WIDTHS = (390, 820, 1400)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
POOL = "/v1/hosts/web-1/hugepages/2048kB/nr_hugepages"

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install playwright"
)
expect = playwright.expect
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A serving process with three hosts, of which one is stuck."""
    folder = tmp_path_factory.mktemp("ui")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hugepool", "serve", "--port", str(port)]
    settings = os.environ | {"HUGEPOOL_DATABASE_URL": f"sqlite:///{folder}/hugepool.db"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=settings, stdout=log, stderr=log)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            _wait_for(client)
            _fill(client)
            yield client
        finally:
            process.kill()
            process.wait()


def _wait_for(client: httpx.Client) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if client.get("/healthz/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the service did not start")


def _fill(client: httpx.Client) -> None:
    for i, kernel in enumerate(("5.14", "6.1", "6.12")):
        spec = {
            "kernel": kernel,
            "nodes": [{"memory": "4G"}, {"memory": "4G"}],
            "cmdline": "hugetlb_free_vmemmap=on",
        }
        body = {"name": f"web-{i}", "spec": spec, "labels": {"rack": str(i)}}
        assert client.post("/v1/hosts", json=body).status_code == 201
    client.put(POOL, json={"count": 600})
    client.put("/v1/hosts/web-1/faults/vmemmap-restore", json={})
    client.put(POOL, json={"count": 0})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, service: httpx.Client) -> Iterator[Any]:
    """A page that reports errors of its scripts, and requests that leave its origin."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=str(service.base_url))
    opened.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda asked: _check_origin(asked.url, str(service.base_url), wrong))
    yield opened
    opened.close()
    assert wrong == []


def _check_origin(url: str, origin: str, wrong: list[str]) -> None:
    if not url.startswith((origin, "blob:")):
        wrong.append(f"a request to {url}")


def picture(page: Any, name: str) -> None:
    """Keep a picture as an artifact of a CI run that wants them."""
    folder = os.environ.get("CI_OUT")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_the_fleet_shows_every_host_and_who_is_stuck(page: Any) -> None:
    page.goto("/ui/")
    row = page.get_by_role("row", name="web-1")
    row.wait_for()
    assert page.locator("tbody tr").count() == 3
    assert "surplus-stuck" in row.inner_text()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, f"fleet-{width}")


def test_filters_and_sorting_are_in_the_address(page: Any) -> None:
    page.goto("/ui/")
    page.get_by_label("Label").fill("rack=2")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1, timeout=PATIENCE_MS)
    assert "label=rack%3D2" in page.url
    page.reload()
    page.get_by_role("row", name="web-2").wait_for()
    assert page.locator("tbody tr").count() == 1
    page.goto("/ui/?sort=4&down=1")
    page.locator("tbody tr").first.wait_for()
    assert page.locator("tbody tr").first.inner_text().startswith("web-1")


def test_a_host_says_why_and_the_remedy_works_on_a_copy(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/")
    page.get_by_role("link", name="web-1").click()
    page.get_by_text("600 are surplus").wait_for()
    page.locator(".u-legend").first.wait_for()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator(".u-legend").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, f"host-{width}")
    before = service.get("/v1/hosts/web-1").json()["revision"]
    page.get_by_role("button", name="Try it").first.click()
    page.get_by_text("On a copy:").wait_for()
    assert service.get("/v1/hosts/web-1").json()["revision"] == before
    page.go_back()
    page.get_by_role("row", name="web-0").wait_for()


def test_figures_follow_a_change_and_equal_the_hosts_files(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/hosts/web-0")
    page.get_by_text("live").wait_for()
    service.put("/v1/hosts/web-0/hugepages/2048kB/nr_hugepages", json={"count": 123})
    tile = page.locator(".tile", has_text="2 MiB pages").locator("b")
    expect(tile).to_have_text("123", timeout=PATIENCE_MS)
    meminfo = service.get("/v1/hosts/web-0/fs/proc/meminfo").text
    total = next(line.split()[1] for line in meminfo.splitlines() if line.startswith("HugePages_Total"))
    assert tile.inner_text() == total


def test_a_resize_is_tried_first_and_then_applied(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/hosts/web-2")
    page.get_by_role("spinbutton", name="Pages").fill("77")
    page.get_by_role("button", name="Dry run").click()
    page.get_by_text("It reaches what was asked.").wait_for()
    pool = "/v1/hosts/web-2/hugepages/2048kB"
    assert service.get(pool).json()["nr_hugepages"] == 0
    page.get_by_role("button", name="Apply").click()
    tile = page.locator(".tile", has_text="2 MiB pages").locator("b")
    expect(tile).to_have_text("77", timeout=PATIENCE_MS)
    assert service.get(pool).json()["nr_hugepages"] == 77


def test_the_memory_map_is_used_by_keyboard(page: Any) -> None:
    page.goto("/ui/hosts/web-1")
    page.get_by_text("one cell is").wait_for()
    page.locator("canvas.map").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("(pages of 4 KiB)").wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Back to all memory").wait_for()
    page.keyboard.press("Escape")


def test_a_host_that_is_deleted_meanwhile_says_so(page: Any, service: httpx.Client) -> None:
    service.post("/v1/hosts", json={"name": "gone", "fork_of": "web-0"})
    page.goto("/ui/hosts/gone")
    page.get_by_text("live").wait_for()
    service.delete("/v1/hosts/gone")
    page.get_by_text("There is no host gone any more.").wait_for()
