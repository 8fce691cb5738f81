"""Fleet and host in a real browser: what they show, that they follow changes, and what happens when things go away."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.access import Caller, Role, line_of, new_token
from tests.docs.server import free_port
from tests.ui.conftest import at_three_widths, boot, picture, resize, serving, visit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make install")
expect = sync_api.expect
pytestmark = pytest.mark.xdist_group("browser")
NOT_THERE = "ERR_CONNECTION|ERR_INCOMPLETE|Failed to load resource|Failed to fetch|network error"
LIVE_MS = 2000


def tile(page: Any, title: str) -> Any:
    """The figure of a tile."""
    return page.locator(".tile", has=page.get_by_text(title, exact=True)).locator("b")


def test_the_fleet_shows_every_host_and_who_is_stuck(page: Any) -> None:
    page.goto("/ui/?name=web-?")
    row = page.get_by_role("row", name="web-1")
    row.wait_for()
    expect(page.locator("tbody tr")).to_have_count(3)
    assert "surplus-stuck" in row.inner_text()
    expect(row.locator("svg path")).to_have_count(1)
    at_three_widths(page, "fleet")


def test_filters_sorting_and_columns_are_in_the_address(page: Any) -> None:
    page.goto("/ui/")
    page.get_by_label("Label", exact=True).fill("rack=2")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "label=rack%3D2" in page.url
    page.reload()
    page.get_by_role("row", name="web-2").wait_for()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto("/ui/?name=web-?&sort=pages&down=1")
    expect(page.locator("tbody tr").first).to_contain_text("web-1")
    page.get_by_role("button", name="Host", exact=True).click()
    expect(page.locator("tbody tr").first).to_contain_text("web-0")
    page.get_by_text("Columns").click()
    page.get_by_label("Labels").check()
    expect(page.get_by_role("row", name="web-2")).to_contain_text("rack=2")
    page.reload()
    expect(page.get_by_role("row", name="web-2")).to_contain_text("rack=2")


def test_states_lead_to_the_hosts_that_are_in_them(page: Any) -> None:
    page.goto("/ui/?name=web-?")
    page.get_by_role("link", name="surplus-stuck: 1").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("web-1")
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(3)


def test_what_is_shown_is_saved_as_csv(page: Any) -> None:
    page.goto("/ui/?name=web-?&cols=pages,surplus")
    page.get_by_role("row", name="web-1").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert lines[0] == '"Host","2 MiB pages","Surplus"'
    assert '"web-1","600","600"' in lines


def test_ticked_hosts_are_checked_and_compared(page: Any) -> None:
    page.goto("/ui/?name=web-?")
    for name in ("web-0", "web-2"):
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("button", name="Check all counters").click()
    expect(page.get_by_role("row", name="web-2")).to_contain_text("counters hold")
    page.get_by_role("link", name="Compare", exact=True).last.click()
    page.get_by_role("heading", name="Compare").wait_for()
    expect(page.get_by_label("Stored hosts")).to_have_value("web-0,web-2")
    page.go_back()
    page.get_by_role("row", name="web-0").wait_for()


def test_a_filter_that_nothing_fits_and_one_that_is_none(browser: Any, service: httpx.Client) -> None:
    with visit(browser, str(service.base_url), may_fail="422") as page:
        page.goto("/ui/?name=nobody")
        page.get_by_text("No host fits.").wait_for()
        page.goto("/ui/?label=no%20label")
        page.get_by_text("query label").wait_for()


def test_thousands_of_hosts_scroll(page: Any, service: httpx.Client) -> None:
    """The answers are made up from a real one: what is tested is the page."""
    shape = service.get("/v1/hosts", params={"view": "summary", "name": "web-0"}).json()["items"][0]
    hosts = [shape | {"name": f"many-{i:04}"} for i in range(2000)]

    def answer(route: Any) -> None:
        begin = 1000 if "cursor=" in route.request.url else 0
        after = None if begin else "many-0999"
        route.fulfill(json={"items": hosts[begin : begin + 1000], "next_cursor": after})

    page.route("**/v1/hosts?*view=summary*", answer)
    page.route("**/v1/hosts/many-*/history*", lambda route: route.fulfill(json={"columns": [], "rows": []}))
    page.goto("/ui/")
    page.get_by_text("2,000 hosts").wait_for()
    assert page.locator("tbody tr").count() < 100
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.get_by_role("row", name="many-1999").wait_for()
    assert page.locator("tbody tr").count() < 100
    page.evaluate("window.scrollTo(0, document.body.scrollHeight / 2)")
    page.get_by_role("link", name="many-1000").wait_for()
    picture(page, "fleet-of-2000")


def test_the_fleet_follows_changes(page: Any, service: httpx.Client) -> None:
    boot(service, "follow-9")
    page.goto("/ui/?name=follow-*")
    page.get_by_text("live", exact=False).wait_for()
    row = page.get_by_role("row", name="follow-9")
    row.wait_for()
    resize(service, "follow-9", 77)
    expect(row).to_contain_text("77", timeout=LIVE_MS)
    boot(service, "follow-10")
    page.get_by_role("row", name="follow-10").wait_for(timeout=LIVE_MS)
    boot(service, "follow-11")
    page.get_by_role("row", name="follow-11").wait_for(timeout=LIVE_MS)
    names = [name.split()[0] for name in page.locator("tbody th").all_inner_texts()]
    assert names == ["follow-9", "follow-10", "follow-11"]
    service.delete("/v1/hosts/follow-9")
    expect(row).to_have_count(0, timeout=LIVE_MS)


def test_a_host_says_why_and_the_remedy_works_on_a_copy(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/?name=web-?")
    page.get_by_role("link", name="web-1").click()
    page.get_by_text("600 are surplus").wait_for()
    page.locator(".u-legend").first.wait_for()
    at_three_widths(page, "host")
    before = service.get("/v1/hosts/web-1").json()["revision"]
    page.get_by_role("button", name="Try it").first.click()
    page.get_by_text("On a copy").wait_for()
    expect(page.locator(".trial li")).to_have_count(2)
    assert service.get("/v1/hosts/web-1").json()["revision"] == before
    page.go_back()
    page.get_by_role("row", name="web-0").wait_for()


def test_figures_follow_a_change_and_equal_the_hosts_files(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/hosts/web-0")
    page.get_by_text("live", exact=False).wait_for()
    expect(tile(page, "2 MiB pages")).to_have_text("0")
    resize(service, "web-0", 123)
    expect(tile(page, "2 MiB pages")).to_have_text("123", timeout=LIVE_MS)
    page.reload()
    expect(tile(page, "2 MiB pages")).to_have_text("123")
    lines = service.get("/v1/hosts/web-0/fs/proc/meminfo").text.splitlines()
    meminfo = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert meminfo["HugePages_Total"] == 123
    assert tile(page, "Free of them").inner_text() == str(meminfo["HugePages_Free"])
    page.get_by_text(f"{meminfo['HugePages_Rsvd']} reserved, 0 in use").wait_for()
    assert tile(page, "Surplus").inner_text() == str(meminfo["HugePages_Surp"])
    assert tile(page, "Available").inner_text() == f"{meminfo['MemAvailable'] / 2**20:.1f} GiB"


def test_nodes_are_bars_that_say_what_they_hold(page: Any, service: httpx.Client) -> None:
    boot(service, "bars")
    resize(service, "bars", 200)
    service.post("/v1/hosts/bars/tasks", json={"kind": "hugetlb", "count": 40, "touch": 40})
    page.goto("/ui/hosts/bars")
    text = page.get_by_role("img", name="Node 0:").get_attribute("aria-label")
    free = service.get("/v1/hosts/bars/hugepages/2048kB").json()["nodes"][0]["free_hugepages"]
    assert f"free huge pages {free * 2} MiB" in text
    assert f"huge pages in use {(100 - free) * 2}" in text
    assert "vmemmap" in text


def test_a_host_that_is_deleted_meanwhile_says_so(page: Any, service: httpx.Client) -> None:
    service.post("/v1/hosts", json={"name": "gone", "fork_of": "web-0"})
    page.goto("/ui/hosts/gone")
    page.get_by_text("live", exact=False).wait_for()
    service.delete("/v1/hosts/gone")
    page.get_by_text("There is no host gone any more.").wait_for()


def test_a_service_that_goes_away_and_returns(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    with visit(browser, f"http://127.0.0.1:{port}", may_fail=NOT_THERE) as page:
        with serving(tmp_path, port) as client:
            boot(client, "here")
            page.goto("/ui/hosts/here")
            page.get_by_text("● live").wait_for()
        page.get_by_text("not connected").wait_for()
        expect(tile(page, "2 MiB pages")).to_have_text("0")
        with serving(tmp_path, port) as client:
            page.get_by_text("● live").wait_for()
            resize(client, "here", 5)
            expect(tile(page, "2 MiB pages")).to_have_text("5")


def test_a_wrong_token_is_asked_for_again(browser: Any, tmp_path: Path) -> None:
    token = new_token()
    tokens = tmp_path / "tokens"
    tokens.write_text(line_of(Caller("me", Role.ADMIN), token) + "\n")
    tokens.chmod(0o600)
    port = free_port()
    with serving(tmp_path, port, HUGEPOOL_TOKENS_FILE=str(tokens)) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        boot(client, "secret")
        with visit(browser, f"http://127.0.0.1:{port}", may_fail="401") as page:
            page.goto("/ui/")
            page.get_by_label("Token").fill(new_token())
            page.get_by_role("button", name="Use it").click()
            page.get_by_text("It does not know the token").wait_for()
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Use it").click()
            page.get_by_role("link", name="secret").wait_for()
            page.reload()
            page.get_by_role("link", name="secret").wait_for()
