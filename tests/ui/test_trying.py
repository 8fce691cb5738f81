"""Forms that change a host: tried on a copy, applied to the revision that was tried, kept as a scenario."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ui.conftest import boot, resize, visit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make install")
expect = sync_api.expect
pytestmark = pytest.mark.xdist_group("browser")
REFUSED = "status of (4|5)"  # the browser prints the answers that a form shows in words

CHOICES = {"Size", "State"}
# What is chosen, its fields, and the word of the event that applying it leaves.
FORMS: list[tuple[str, dict[str, str], str]] = [
    ("Resize", {"Pages": "64"}, "PoolResized"),
    ("Overcommit", {"Surplus pages allowed": "8"}, "OvercommitSet"),
    ("Huge page task", {"Pages mapped": "4", "Touched": "2"}, "TaskStarted"),
    ("Touch", {"Task": "1000", "Pages": "1"}, "HugePagesTouched"),
    ("Cgroup", {"Path": "pods/a", "Most pages": "10"}, "CgroupLimitSet"),
    ("Memory task", {"Memory": "64M"}, "TaskStarted"),
    ("Stop", {"Task": "1001"}, "TaskExited"),
    ("Block", {"Block": "60"}, "MemoryBlockOffline"),
    ("Block", {"Block": "60", "State": "online"}, "MemoryBlockOnline"),
    ("Resize", {"Size": "1 GiB", "Pages": "1"}, "PoolResized"),
    ("Demote", {"Pages": "1"}, "HugePagesDemoted"),
    ("Contiguous range", {"Pages of 4 KiB": "512"}, "ContigRangeAllocated"),
    ("Fault", {"Percent": "100", "Times (−1: always)": "1"}, "FaultArmed"),
    ("Disarm", {}, "FaultDisarmed"),
    ("Drop caches", {}, "CachesDropped"),
    ("Compact", {}, ""),
    ("Add blocks", {"Memory": "128M"}, "MemoryAdded"),
    ("virtio-mem", {"At most": "512M", "Requested": "256M"}, "VirtioMemAdded"),
    ("virtio-mem request", {"Requested": "0"}, "VirtioMemRun"),
    ("Deferred frees", {}, ""),
]


def dry_run(page: Any, form: str, fields: dict[str, str]) -> Any:
    """Fill a form and try it; the part of the page that says what would come of it."""
    page.locator(".chips label", has=page.get_by_text(form, exact=True)).click()
    for label, value in fields.items():
        if label in CHOICES:
            page.locator("form .row").get_by_role("combobox", name=label, exact=True).select_option(value)
        else:
            page.locator("form .row").get_by_label(label, exact=True).first.fill(value)
    page.get_by_role("button", name="Dry run").click()
    tried = page.locator(".trial")
    tried.get_by_text("On a copy").wait_for()
    return tried


def test_every_form_is_tried_first_and_then_applied(browser: Any, service: httpx.Client) -> None:
    host = boot(service, "forms", "6.12")
    with visit(browser, str(service.base_url), may_fail=REFUSED) as page:
        page.goto("/ui/hosts/forms")
        for form, fields, event in FORMS:
            before = service.get(host).json()["revision"]
            tried = dry_run(page, form, fields)
            assert service.get(host).json()["revision"] == before, form
            tried.get_by_role("button", name="Apply").click()
            tried.get_by_text("Applied").wait_for()
            if event:
                newest = service.get(f"{host}/events", params={"newest": 30}).json()["items"]
                assert event in {each["type"] for each in newest if each["revision"] > before}, form


def test_figures_before_and_after_are_those_of_the_change(page: Any, service: httpx.Client) -> None:
    boot(service, "figures")
    page.goto("/ui/hosts/figures")
    tried = dry_run(page, "Resize", {"Pages": "77"})
    row = tried.get_by_role("row", name="2 MiB pages")
    expect(row).to_contain_text("▲ +77")
    tried.get_by_text("It reaches what was asked.").wait_for()
    tried.get_by_role("button", name="Apply").click()
    tried.get_by_text("Applied").wait_for()
    assert service.get("/v1/hosts/figures/hugepages/2048kB").json()["nr_hugepages"] == 77
    expect(page.locator(".tile", has_text="2 MiB pages").locator("b")).to_have_text("77")


def test_a_change_in_between_stops_what_was_tried(browser: Any, service: httpx.Client) -> None:
    boot(service, "raced")
    with visit(browser, str(service.base_url), may_fail="412") as page:
        page.goto("/ui/hosts/raced")
        tried = dry_run(page, "Resize", {"Pages": "10"})
        resize(service, "raced", 3)
        tried.get_by_role("button", name="Apply").click()
        tried.get_by_text("The host has changed since the dry run.").wait_for()
        assert service.get("/v1/hosts/raced/hugepages/2048kB").json()["nr_hugepages"] == 3


def test_a_refusal_says_why_and_changes_nothing(browser: Any, service: httpx.Client) -> None:
    host = boot(service, "refuses")
    with visit(browser, str(service.base_url), may_fail=REFUSED) as page:
        page.goto("/ui/hosts/refuses")
        tried = dry_run(page, "Huge page task", {"Pages mapped": "4", "Touched": "0"})
        expect(tried).to_contain_text("✕ refused 4 huge pages of 2048kB asked, 0 free")
        tried = dry_run(page, "Stop", {"Task": "999999"})
        expect(tried).to_contain_text("✕ refused")
        assert service.get(host).json()["revision"] == 1


def test_a_refused_step_comes_with_what_would_help(page: Any, service: httpx.Client) -> None:
    boot(service, "helped")
    page.goto("/ui/hosts/helped")
    tried = dry_run(page, "Huge page task", {"Pages mapped": "4", "Touched": "4"})
    expect(tried).to_contain_text("✕ refused")
    remedies = tried.locator(".remedy p:first-child").all_inner_texts()
    assert len(remedies) == len(set(remedies)) > 0
    tried.get_by_role("button", name="Try it").first.click()
    expect(tried).to_contain_text("▲ +4")


def test_dropped_caches_are_free_memory(page: Any, service: httpx.Client) -> None:
    host = boot(service, "cached")
    service.post(f"{host}/tasks", json={"kind": "cache", "memory": "1G"})
    page.goto("/ui/hosts/cached")
    page.get_by_role("img", name="Node 0:").wait_for()
    assert "page cache 1.0 GiB" in page.locator("main").inner_html()
    tried = dry_run(page, "Drop caches", {})
    tried.get_by_text("1.0 GiB of page cache and 0 B of slab are given up.").wait_for()
    expect(tried.get_by_role("row", name="Free memory")).to_contain_text("▲ +1.0 GiB")


def test_a_remedy_is_applied_with_all_its_steps(page: Any, service: httpx.Client) -> None:
    boot(service, "stuck")
    resize(service, "stuck", 300)
    service.put("/v1/hosts/stuck/faults/vmemmap-restore", json={"times": 300})
    resize(service, "stuck", 0)
    page.goto("/ui/hosts/stuck")
    page.get_by_role("button", name="Try it").click()
    tried = page.locator(".trial")
    expect(tried.get_by_role("row", name="2 MiB surplus")).to_contain_text("▼ −300")
    tried.get_by_role("button", name="Apply").click()
    tried.get_by_text("Applied").wait_for()
    pool = service.get("/v1/hosts/stuck/hugepages/2048kB").json()
    assert (pool["nr_hugepages"], pool["surplus_hugepages"]) == (0, 0)


def test_a_change_is_undone_by_the_copy_that_was_kept(browser: Any, service: httpx.Client) -> None:
    host = boot(service, "undone", rack="3")
    resize(service, "undone", 40)
    with visit(browser, str(service.base_url), may_fail="status of 404") as page:
        page.goto("/ui/hosts/undone")
        tried = dry_run(page, "Resize", {"Pages": "7"})
        tried.get_by_label("Keep a copy").check()
        tried.get_by_role("button", name="Apply").click()
        tried.get_by_role("button", name="Undo").wait_for()
        assert service.get(f"{host}/hugepages/2048kB").json()["nr_hugepages"] == 7
        assert service.get(f"{host}-r2/hugepages/2048kB").json()["nr_hugepages"] == 40
        tried.get_by_role("button", name="Undo").click()
        expect(page.locator(".tile", has_text="2 MiB pages").locator("b")).to_have_text("40")
    assert service.get(f"{host}-r2").status_code == 404
    found = service.get("/v1/hosts", params={"view": "summary", "name": "undone"}).json()["items"][0]
    assert found["labels"] == {"rack": "3"}


def test_steps_are_kept_as_a_scenario_that_hugepool_runs(
    page: Any, service: httpx.Client, tmp_path: Path
) -> None:
    boot(service, "kept")
    page.goto("/ui/hosts/kept")
    for form, fields in (
        ("Resize", {"Pages": "12"}),
        ("Memory task", {"Memory": "32M"}),
        ("Drop caches", {}),
    ):
        dry_run(page, form, fields).get_by_role("button", name="Add to scenario").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download YAML").click()
    file = tmp_path / "kept.yaml"
    saved.value.save_as(file)
    command = [sys.executable, "-m", "hugepool", "run", str(file), "--url", str(service.base_url)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok: 3 steps" in done.stdout
    page.get_by_role("button", name="Run on a copy").click()
    expect(page.locator(".trial li")).to_have_count(3)
    page.get_by_role("button", name="Remove step 1").click()
    expect(page.locator("#scenario li")).to_have_count(2)


def test_a_request_is_copied_as_curl_that_works(browser: Any, service: httpx.Client) -> None:
    boot(service, "curled")
    with visit(browser, str(service.base_url), permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto("/ui/hosts/curled")
        tried = dry_run(page, "Resize", {"Pages": "9"})
        tried.get_by_role("button", name="Copy as curl").click()
        tried.get_by_role("button", name="Copied").wait_for()
        command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("curl -X PUT 'http://127.0.0.1:")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert service.get("/v1/hosts/curled/hugepages/2048kB").json()["nr_hugepages"] == 9


def test_who_uses_the_memory_is_listed_with_what_can_be_done(page: Any, service: httpx.Client) -> None:
    host = boot(service, "users")
    resize(service, "users", 50)
    pid = service.post(f"{host}/tasks", json={"kind": "hugetlb", "count": 9, "touch": 5}).json()["pid"]
    page.goto("/ui/hosts/users")
    expect(page.get_by_text("5 of 9 × 2 MiB")).to_be_visible()
    page.get_by_role("button", name=f"Stop task {pid}").click()
    page.locator(".trial").get_by_role("button", name="Apply").click()
    page.get_by_text("No task, cgroup, range or fault.").wait_for()
    assert service.get(f"{host}/tasks").json()["items"] == []
    page.get_by_role("button", name="Check all counters").click()
    page.get_by_text("laws hold").wait_for()
