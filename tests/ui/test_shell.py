"""The page without a browser: its files, its headers, and what it shows without scripts."""

import hashlib
import re
from pathlib import Path

import pytest

import hugepool
from tests.api.conftest import Api

UI = Path(hugepool.__file__).parent / "ui"
MAX_BYTES = 200 << 10
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_vendored_files_are_what_their_hashes_say() -> None:
    folder = UI / "vendor"
    lines = (line.split() for line in (folder / "SHA256SUMS").read_text().splitlines())
    listed = {name: digest for digest, name in lines}
    assert set(listed) == {file.name for file in folder.iterdir()} - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_the_page_is_small_and_names_no_other_place() -> None:
    files = [file for file in UI.rglob("*") if file.is_file() and file.name != "uPlot-LICENSE"]
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    for file in files:
        if file.parent.name != "vendor" and file.suffix != ".svg":
            assert not re.search(r"https?://", file.read_text()), file.name


def test_people_are_led_to_the_page_and_programs_to_an_index(api: Api) -> None:
    answer = api.ask("GET", "/", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (307, "/ui/")
    index = api.get("/").json()
    for path in index.values():
        assert api.get(path).status_code == 200, path


@pytest.mark.parametrize("address", ["/ui/", "/ui/hosts/web-1", "/ui/compare", "/ui/plans", "/ui/import"])
def test_the_page_may_only_load_its_own_files(api: Api, address: str) -> None:
    page = api.get(address)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert " style=" not in page.text
    for file in re.findall(r'(?:src|href)="(/ui/assets/[^"]+)"', page.text):
        assert api.get(file).status_code == 200, file


def test_a_table_of_hosts_is_there_without_scripts(fresh_api: Api) -> None:
    fresh_api.post("/v1/hosts", {"name": "web-7", "spec": {"nodes": [{"memory": "1G"}]}})
    fresh_api.ask("PUT", "/v1/hosts/web-7/hugepages/2048kB/nr_hugepages", json={"count": 9})
    text = fresh_api.get("/ui/").text
    assert re.search(r"<noscript>.*<td>web-7</td>.*<td>9</td>.*</noscript>", text, re.DOTALL)


def test_the_newest_events_can_be_asked_for(fresh_api: Api) -> None:
    fresh_api.post("/v1/hosts", {"name": "a", "spec": {"nodes": [{"memory": "1G"}]}})
    for count in range(5):
        fresh_api.ask("PUT", "/v1/hosts/a/hugepages/2048kB/nr_hugepages", json={"count": count})
    every = fresh_api.get("/v1/hosts/a/events", params={"limit": 1000}).json()["items"]
    newest = fresh_api.get("/v1/hosts/a/events", params={"newest": 3}).json()["items"]
    assert newest == every[-3:]
