"""Compare, plans and import: questions that are asked in forms, and answers that can be taken along."""

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ui.conftest import at_three_widths, boot, resize, visit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make install")
expect = sync_api.expect
pytestmark = pytest.mark.xdist_group("browser")
SMALL = "/ui/compare?nodes=2&memory=4G&counts=5G&taken=1G"


def test_kernels_and_settings_are_compared(page: Any) -> None:
    page.goto(f"{SMALL}&kernels=5.14,6.12")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("All figures").wait_for()
    expect(page.locator(".scroll tbody tr")).to_have_count(4)
    expect(page.get_by_role("row", name="5.14 hugetlb_free_vmemmap=on").last).to_contain_text("2,560")
    assert page.locator(".bars i").count() == 4
    assert page.locator("p.sentence", has_text="came back").count() == 1
    at_three_widths(page, "compare")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.get_by_label("Bars").select_option("saved, net")
    page.get_by_text("★ Most saved, net").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert lines[0].startswith('"kernel","command line","pages asked","outcome","pages got","came back"')
    assert len(lines) == 5
    page.reload()  # the link has the question, and asks it again
    page.get_by_text("All figures").wait_for()
    expect(page.locator(".scroll tbody tr")).to_have_count(4)


def test_an_answer_is_copied_as_markdown(browser: Any, service: httpx.Client) -> None:
    resize(service, "web-2", 16)
    allowed = ["clipboard-read", "clipboard-write"]
    with visit(browser, str(service.base_url), permissions=allowed) as page:
        page.goto("/ui/compare?hosts=web-1,web-2&counts=700&ask=grow&run=1")
        page.get_by_role("button", name="Copy as Markdown").click()
        page.get_by_role("button", name="Copied").wait_for()
        lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].startswith("| host | pages asked | outcome | pages got |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| web-1", "| web-2"]


def test_a_list_of_variants_with_other_steps(page: Any) -> None:
    page.goto(SMALL)
    page.get_by_text("The question as JSON").click()
    question = {
        "host": "web-0",
        "steps": [{"label": "demand", "overcommit": {"count": 4}}, {"label": "grow", "resize": {"count": 1}}],
        "variants": {"list": [{"steps.grow.resize.count": 3}, {"steps.demand.overcommit.count": 9}]},
    }
    page.get_by_label("The question as JSON").fill(json.dumps(question))
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("All figures").wait_for()
    expect(page.locator(".scroll tbody tr")).to_have_count(2)
    page.reload()
    expect(page.locator(".scroll tbody tr")).to_have_count(2)


def test_a_question_that_makes_no_sense_is_refused_in_words(browser: Any, service: httpx.Client) -> None:
    with visit(browser, str(service.base_url), may_fail="status of 4") as page:
        page.goto("/ui/compare?counts=lots")
        page.get_by_text("lots is neither a number of pages nor an amount of memory").wait_for()
        page.goto("/ui/compare?hosts=nobody&run=1")
        page.get_by_role("alert").wait_for()


ASKED = [
    ("Largest pool", {"Memory to keep": "2G"}, "stay available"),
    ("Savings", {"Pages": "512"}, "give back"),
    ("Headroom", {}, "must stay free above the watermarks"),
    ("Offline", {"Memory wanted": "256M"}, "✓ enough"),
    ("Placement", {"Its memory": "64M"}, "Now it starts"),
    ("Churn", {"Rounds": "2", "Histories": "2"}, "can be formed now"),
]


def test_every_plan_is_asked_and_answered_in_words(page: Any, service: httpx.Client) -> None:
    boot(service, "planned")
    resize(service, "planned", 200)
    page.goto("/ui/plans?host=planned")
    for title, fields, words in ASKED:
        page.locator(".chips label", has=page.get_by_text(title, exact=True)).click()
        for label, value in fields.items():
            page.get_by_label(label, exact=True).fill(value)
        page.get_by_role("button", name="Ask").click()
        page.get_by_role("heading", name=f"{title}: planned").wait_for()
        expect(page.locator("main")).to_contain_text(words)
        if title == "Headroom":
            page.locator(".u-legend").first.wait_for()
            at_three_widths(page, "plan-headroom")
            page.set_viewport_size({"width": 1400, "height": 900})
    assert "plan=churn" in page.url


def test_a_plan_is_asked_of_all_hosts_of_a_filter(page: Any, service: httpx.Client) -> None:
    for name in ("shelf-1", "shelf-2"):
        boot(service, name, shelf="7")
    page.goto("/ui/?label=shelf%3D7")
    page.get_by_role("row", name="shelf-2").wait_for()
    page.get_by_role("link", name="Plans").last.click()
    expect(page.get_by_label("Label", exact=True)).to_have_value("shelf=7")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("heading", name="Largest pool: all hosts of the filter").wait_for()
    expect(page.locator("dl").first).to_contain_text("answered2")
    expect(page.locator("main tbody tr")).to_have_count(2)
    page.get_by_role("button", name="shelf-2").click()
    page.get_by_text("stay available. The limit is").wait_for()
    page.reload()
    expect(page.locator("main tbody tr")).to_have_count(2)


def test_a_plan_that_takes_long_is_cancelled(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/plans?host=web-2&plan=churn")
    page.get_by_label("Rounds").fill("10000")
    page.get_by_label("Histories").fill("200")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("progressbar").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    end = time.monotonic() + 30
    while any(job["kind"] == "churn" for job in service.get("/v1/jobs").json()["items"]):
        assert time.monotonic() < end, "the job goes on"
        page.wait_for_timeout(100)


FILES = ("/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/cmdline")


def archive(service: httpx.Client, host: str) -> bytes:
    """The files of a host as collect.sh packs them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in FILES:
            content = service.get(f"/v1/hosts/{host}/fs{path}").content
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_an_archive_is_looked_at_and_imported(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/import")
    file = {"name": "Prod_17.tar.gz", "mimeType": "application/gzip", "buffer": archive(service, "web-2")}
    page.get_by_label("Archives").set_input_files(file)
    page.get_by_text("nothing is stored yet").wait_for()
    page.get_by_text("what no file said").wait_for()
    assert service.get("/v1/hosts/prod-17").status_code == 404
    at_three_widths(page, "import")
    page.get_by_role("button", name="Import").click()
    page.get_by_role("link", name="Open prod-17").click()
    page.get_by_role("heading", name="prod-17").wait_for()
    real = service.get("/v1/hosts/web-2/fs/proc/buddyinfo").text
    assert service.get("/v1/hosts/prod-17/fs/proc/buddyinfo").text == real


DROPPED = """() => {
  const carried = new DataTransfer();
  carried.items.add(new File(["no archive"], "notes.txt"));
  return carried;
}"""


def test_a_dropped_file_that_is_no_archive_is_refused(browser: Any, service: httpx.Client) -> None:
    with visit(browser, str(service.base_url), may_fail="status of 4") as page:
        page.goto("/ui/import")
        page.get_by_text("Drop archives").wait_for()
        page.dispatch_event(".drop", "drop", {"dataTransfer": page.evaluate_handle(DROPPED)})
        page.get_by_role("heading", name="notes.txt").wait_for()
        page.get_by_role("alert").wait_for()
        assert service.get("/v1/hosts/notes").status_code == 404
        assert service.get("/v1/hosts/notes-txt").status_code == 404


def test_a_machine_is_booted(page: Any, service: httpx.Client) -> None:
    page.goto("/ui/import")
    page.get_by_role("textbox", name="Name").fill("booted")
    page.get_by_label("Memory of each").fill("2G")
    page.get_by_label("Labels").fill("rack=9 role=db")
    page.get_by_role("button", name="Boot", exact=True).click()
    page.get_by_role("link", name="Open booted").click()
    page.get_by_role("heading", name="booted").wait_for()
    found = service.get("/v1/hosts", params={"view": "summary", "name": "booted"}).json()["items"][0]
    assert found["labels"] == {"rack": "9", "role": "db"}
    assert len(found["nodes"]) == 2
