"""The memory map: by mouse, by keyboard, and as a table; from all memory down to a page."""

import re
from typing import Any

import httpx
import pytest

from tests.ui.conftest import boot, picture, resize, visit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make install")
expect = sync_api.expect
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def host(service: httpx.Client) -> str:
    """A host with huge pages, of which a task has some, and unmovable memory."""
    address = boot(service, "mapped")
    resize(service, "mapped", 400)
    service.post(f"{address}/tasks", json={"kind": "hugetlb", "count": 8, "touch": 8})
    service.post(f"{address}/tasks", json={"kind": "kernel", "memory": "200M"})
    return address


def open_map(page: Any) -> Any:
    """The map of the host, drawn."""
    page.goto("/ui/hosts/mapped")
    page.get_by_text("one cell is a memory block of 128 MiB").wait_for()
    return page.locator("canvas.map")


def said(page: Any) -> Any:
    """What is said of the cell that is pointed at."""
    return page.locator(".said")


def test_the_map_is_used_by_keyboard_down_to_a_page(page: Any, host: str) -> None:
    canvas = open_map(page)
    canvas.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(said(page)).to_contain_text("Block 3, page 98,304 (128 MiB, node 0")
    page.keyboard.press("Enter")
    page.get_by_text("one cell is 2.0 MiB").wait_for()
    page.get_by_role("heading", name=re.compile("^Block 3 can")).wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("one cell is 4.0 KiB").wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=re.compile("^Page 98,304:")).wait_for()
    expect(page.locator(".walk")).to_contain_text("mapped by one PMD")
    page.keyboard.press("Escape")
    page.get_by_text("one cell is a memory block of 128 MiB").wait_for()


def test_a_cell_is_opened_by_a_click(page: Any, host: str) -> None:
    canvas = open_map(page)
    canvas.hover(position={"x": 8, "y": 30})
    expect(said(page)).to_contain_text("Block 0, page 0")
    canvas.click(position={"x": 8, "y": 30})
    page.get_by_text("one cell is 2.0 MiB").wait_for()
    page.get_by_role("button", name="All memory").click()
    page.get_by_text("one cell is a memory block of 128 MiB").wait_for()
    picture(page, "map")


def test_a_range_that_is_brushed_is_tried_as_offline(page: Any, service: httpx.Client, host: str) -> None:
    before = service.get(host).json()["revision"]
    canvas = open_map(page)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 80, box["y"] + 30, steps=4)
    page.mouse.up()
    words = page.locator(".chosen b")
    expect(words).to_contain_text(re.compile(r"blocks 0 to \d"))
    last = int(words.inner_text().split()[-1])
    page.get_by_role("button", name=f"Offline {last + 1} blocks").click()
    tried = page.locator(".trial")
    tried.get_by_text("On a copy").wait_for()
    expect(tried.locator("li")).to_have_count(last + 1)
    assert service.get(host).json()["revision"] == before


def test_a_range_is_chosen_by_keyboard_and_tried_as_a_contiguous_one(page: Any, host: str) -> None:
    canvas = open_map(page)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    expect(page.locator(".chosen b")).to_have_text("384 MiB: blocks 1 to 3")
    page.get_by_role("button", name="Contiguous range").click()
    expect(page.locator(".trial details pre")).to_contain_text('"start_pfn":32768,"end_pfn":131072')


def test_the_table_says_the_same_and_leads_on(page: Any, service: httpx.Client, host: str) -> None:
    open_map(page)
    page.get_by_text("As a table").first.click()
    row = page.get_by_role("row", name="Block 40, page 1,310,720")
    block = service.get(f"{host}/memory-blocks/40").json()
    huge = block["hugepages"]["2048kB"] * 2
    expect(row).to_contain_text("huge pages" if huge else "free")
    row.get_by_role("button").click()
    page.get_by_role("heading", name=re.compile("^Block 40 can")).wait_for()


def test_a_page_is_found_by_its_number(page: Any, service: httpx.Client, host: str) -> None:
    open_map(page)
    picture_ = service.get(f"{host}/memory-map", params={"bins": 8192}).json()
    first = next(p for p, n in zip(picture_["bins"], picture_["uses"]["hugetlb"], strict=True) if n)
    page.get_by_label("Page number").fill(str(first + 100))
    page.get_by_role("button", name="Find page").click()
    page.get_by_role("heading", name=f"Page {first + 100:,}: hugetlb").wait_for()
    expect(page.locator(".walk")).to_contain_text("shared by the tail pages")


def test_a_block_is_found_and_one_that_is_not_there_is_refused(
    browser: Any, service: httpx.Client, host: str
) -> None:
    with visit(browser, str(service.base_url), may_fail="status of 4") as page:
        open_map(page)
        page.get_by_label("Memory block").fill("40")
        page.get_by_role("button", name="Find block").click()
        page.get_by_role("heading", name=re.compile("^Block 40 can")).wait_for()
        page.get_by_label("Memory block").fill("4000")
        page.get_by_role("button", name="Find block").click()
        expect(said(page)).to_contain_text("memory ends at page")
