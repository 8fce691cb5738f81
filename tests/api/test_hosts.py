"""Hosts: create, import, list, show, delete."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hugepool.fs.archive import make_archive
from tests.api.conftest import Api, HostApi, problem_of, refused, serving

TRACE = Path(__file__).parent.parent / "data" / "traces" / "i_boot_2m-6.1-HVOon.json.gz"


@pytest.fixture(scope="module")
def machine() -> dict[str, str]:
    """The files of a recorded machine."""
    with gzip.open(TRACE, "rt") as stream:
        files: dict[str, str] = json.load(stream)["boot"]["files"]
    return files


def test_a_host_is_booted_from_a_spec_and_shown_in_full(api: Api) -> None:
    spec = {"kernel": "5.14", "cmdline": "hugetlb_free_vmemmap=on", "seed": 7,
            "nodes": [{"memory": "1G", "cpus": 4}, {"memory": 1 << 30, "cpus": 4}]}  # fmt: skip
    answer = api.post("/v1/hosts", {"name": "full", "spec": spec})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/hosts/full"
    assert answer.headers["etag"].startswith('"1-')
    shown = api.get("/v1/hosts/full")
    assert shown.headers["etag"].startswith('"1-')
    assert shown.json() == answer.json()
    body = shown.json()
    assert body.keys() >= {
        "name", "kernel", "cmdline", "revision", "created_at", "seed", "memory", "nodes", "zones", "hugepages",
        "vmemmap", "memory_blocks", "deferred_frees", "faults",
    }  # fmt: skip
    assert body["memory"].keys() == {"total_bytes", "free_bytes", "managed_pages", "free_pages"}
    assert body["zones"][0].keys() >= {
        "node", "name", "start_pfn", "spanned", "present", "managed", "free", "min", "low", "high", "lowmem_reserve",
    }  # fmt: skip
    assert body["memory"]["managed_pages"] == sum(zone["managed"] for zone in body["zones"])
    assert body["vmemmap"] == {
        "sections": 16, "sections_split": 0, "page_table_pages": 0, "pages_freed": 0, "bytes_saved": 0,
    }  # fmt: skip
    assert body["memory_blocks"] == {"size_bytes": 128 << 20, "online": 16, "offline": 0}
    assert body["deferred_frees"] == {"mode": "auto", "queued": 0}
    assert (body["faults"], body["seed"], [node["node"] for node in body["nodes"]]) == ([], 7, [0, 1])


def test_a_dry_run_answers_and_stores_nothing(api: Api) -> None:
    body = {"name": "dry", "spec": {"nodes": [{"memory": "1G"}]}}
    answer = api.post("/v1/hosts?dry_run=true", body)
    assert answer.status_code == 201
    assert answer.json()["memory"]["total_bytes"] > 0
    refused(api.get("/v1/hosts/dry"), 404, "ENOENT")


def test_a_copy_is_the_same_machine_under_another_name(host: HostApi) -> None:
    host.put("hugepages/2048kB/nr_hugepages", {"count": 20})
    answer = host.api.post("/v1/hosts", {"name": f"{host.name}-copy", "fork_of": host.name})
    assert answer.status_code == 201
    theirs, ours = host.get(), answer.json()
    assert ours["hugepages"] == theirs["hugepages"]
    assert ours["memory"] == theirs["memory"]


def test_a_real_machine_is_read_from_its_files(api: Api, machine: dict[str, str]) -> None:
    answer = api.post("/v1/hosts", {"name": "real", "files": machine})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    total_kb = int(machine["/proc/meminfo"].split()[1])
    assert body["memory"]["total_bytes"] == total_kb * 1024
    assert body["kernel"] == "6.1"
    small = next(row for row in body["hugepages"] if row["size"] == "2048kB")
    assert small["nr_hugepages"] == int(machine["/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"])


def test_an_archive_says_the_same_as_its_files(api: Api, machine: dict[str, str]) -> None:
    answer = api.ask("POST", "/v1/hosts/import?name=packed&kernel=6.1", content=make_archive(machine))
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/hosts/packed"
    again = api.post("/v1/hosts", {"name": "unpacked", "files": machine, "kernel": "6.1"})
    assert answer.json()["memory"] == again.json()["memory"]
    assert answer.json()["zones"] == again.json()["zones"]


def test_the_answer_to_an_import_lists_what_was_assumed(api: Api, machine: dict[str, str]) -> None:
    needed = {path: machine[path] for path in ("/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo")}
    answer = api.post("/v1/hosts", {"name": "assumed", "files": needed}).json()
    assert answer["approximate"] is False
    assert any("rule set of 6.1" in sentence for sentence in answer["assumptions"])
    assert any("no pagetypeinfo" in sentence for sentence in answer["assumptions"])
    assert api.get("/v1/hosts/assumed").json() == answer


def test_meminfo_alone_gives_an_approximate_host(api: Api, machine: dict[str, str]) -> None:
    answer = api.post("/v1/hosts", {"name": "rough", "files": {"/proc/meminfo": machine["/proc/meminfo"]}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["approximate"] is True
    assert any("no zoneinfo" in sentence for sentence in answer.json()["assumptions"])
    shown = api.get("/v1/hosts/rough/fs/proc/meminfo").text.splitlines()
    assert shown[:2] == machine["/proc/meminfo"].splitlines()[:2]
    assert api.get("/v1/hosts/rough/audit").json()["ok"]


def seconds(day: int) -> int:
    return 1_700_000_000 + 86_400 * day


def test_later_looks_at_a_machine_become_its_history(api: Api, machine: dict[str, str]) -> None:
    for day, text in enumerate((machine["/proc/meminfo"], fewer_free(machine["/proc/meminfo"]))):
        files = {"/proc/meminfo": text} if day else machine
        answer = api.ask(
            "POST", "/v1/hosts/import?name=watched&series=true", content=make_archive(files, seconds(day))
        )
        assert answer.status_code == (200 if day else 201), answer.text
        assert answer.headers["ETag"].startswith(f'"{day + 1}-')
        assert answer.json()["approximate"] is bool(day)
        assert api.get("/v1/hosts/watched").json() == answer.json()
    shown = api.get("/v1/hosts/watched/history").json()
    revision, at = shown["columns"].index("revision"), shown["columns"].index("at")
    days = {row[revision]: row[at][:10] for row in shown["rows"]}
    assert days == {1: "2023-11-14", 2: "2023-11-15"}  # when it was so, not when it was reported
    api.app.state.service._cache.drop("watched")
    assert api.get("/v1/hosts/watched").json() == answer.json()
    assert api.get("/v1/hosts/watched/audit").json()["ok"]


def fewer_free(meminfo: str) -> str:
    lines = meminfo.splitlines()
    free = int(lines[1].split()[1])
    return "\n".join([lines[0], f"MemFree: {free - 100_000} kB", *lines[2:]]) + "\n"


def test_a_later_look_may_be_tried_and_may_need_a_revision(api: Api, machine: dict[str, str]) -> None:
    content = make_archive(machine)
    road = "/v1/hosts/import?name=tried&series=true"
    assert api.ask("POST", road + "&dry_run=true", content=content).json()["revision"] == 0
    refused(api.get("/v1/hosts/tried"), 404, "ENOENT")
    refused(api.ask("POST", road, content=content, headers={"If-Match": '"1"'}), 412, "ESTALE")
    assert api.ask("POST", road, content=content).status_code == 201
    assert api.ask("POST", road + "&dry_run=true", content=content).json()["revision"] == 1
    refused(api.ask("POST", road, content=content, headers={"If-Match": '"7"'}), 412, "ESTALE")
    assert api.ask("POST", road, content=content, headers={"If-Match": '"1"'}).json()["revision"] == 2
    refused(api.ask("POST", "/v1/hosts/import?name=tried", content=content), 409, "EEXIST")


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar", mtime=0)])
def test_what_is_no_archive_is_refused(api: Api, content: bytes) -> None:
    refused(api.ask("POST", "/v1/hosts/import?name=broken", content=content), 422, "EINVAL")
    refused(api.get("/v1/hosts/broken"), 404, "ENOENT")


def test_an_import_needs_a_proper_name(api: Api, machine: dict[str, str]) -> None:
    body = refused(api.ask("POST", "/v1/hosts/import?name=No", content=make_archive(machine)), 422, "EINVAL")
    assert body["errors"][0]["field"] == "query name"


def test_a_wrong_line_of_a_file_is_named(api: Api, machine: dict[str, str]) -> None:
    files = {**machine, "/proc/buddyinfo": "Node 0, zone\n"}
    body = refused(api.post("/v1/hosts", {"name": "wrong", "files": files}), 422, "EINVAL")
    assert body["errors"][0]["field"].startswith("/proc/buddyinfo:1")


def test_a_taken_name_is_refused_and_the_host_stays(host: HostApi) -> None:
    with host.nothing_changes():
        body = {"name": host.name, "spec": {"nodes": [{"memory": "2G"}]}}
        refused(host.api.post("/v1/hosts", body), 409, "EEXIST")


NODES = {"nodes": [{"memory": "1G"}]}
WRONG: list[tuple[Any, str]] = [
    ({}, "name"),
    ({"name": "w"}, "body"),
    ({"name": "w", "spec": NODES, "fork_of": "x"}, "body"),
    ({"name": "w", "spec": NODES, "kernel": "6.1"}, "body"),
    ({"name": "No", "spec": NODES}, "name"),
    ({"name": "w" * 64, "spec": NODES}, "name"),
    ({"name": "w", "spec": {"nodes": []}}, "spec.nodes"),
    ({"name": "w", "spec": {"nodes": [{}]}}, "spec.nodes[0].memory"),
    ({"name": "w", "spec": {"nodes": [{"memory": "1G", "cpu": 1}]}}, "spec.nodes[0].cpu"),
    ({"name": "w", "spec": {"nodes": [{"memory": "8Q"}]}}, "spec.nodes[0].memory"),
    ({"name": "w", "spec": {"nodes": [{"memory": True}]}}, "spec.nodes[0].memory"),
    ({"name": "w", "spec": {"nodes": [{"memory": "1" * 5000}]}}, "spec.nodes[0].memory"),
    ({"name": "w", "spec": {"nodes": [{"memory": "1M"}]}}, "nodes[0].memory"),
    ({"name": "w", "spec": {**NODES, "cmdline": "\ud800"}}, "spec.cmdline"),
    ({"name": "w", "spec": {**NODES, "kernel": "2.4"}}, "kernel"),
    ({"name": "w", "spec": {**NODES, "seed": 1.5}}, "spec.seed"),
    ({"name": "w", "spec": {**NODES, "seed": "1"}}, "spec.seed"),
    ({"name": "w", "files": {"/proc/meminfo": 1}}, "files./proc/meminfo"),
    ({"name": "w", "files": {}}, "/proc/meminfo"),
    ([], "body"),
    (None, "body"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_a_wrong_body_is_refused_with_the_field_that_is_wrong(api: Api, body: Any, field: str) -> None:
    answer = api.ask(
        "POST", "/v1/hosts", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    problem = refused(answer, 422, "EINVAL")
    assert field in [error["field"] for error in problem["errors"]]
    assert len(answer.content) < 2000
    refused(api.get("/v1/hosts/w"), 404, "ENOENT")


def test_a_copy_of_nothing_is_refused(api: Api) -> None:
    refused(api.post("/v1/hosts", {"name": "w", "fork_of": "nobody"}), 404, "ENOENT")
    refused(api.get("/v1/hosts/w"), 404, "ENOENT")


def test_hosts_are_listed_in_pages(fresh_api: Api) -> None:
    assert fresh_api.get("/v1/hosts").json() == {"items": [], "next_cursor": None}
    names = [fresh_api.boot().name for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = fresh_api.get(
            "/v1/hosts", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        seen += [row["name"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["items"]) == 2
    assert seen == names
    assert page["items"][0].keys() >= {"name", "kernel", "revision", "created_at"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=-x", "cursor=bnVtYmVyOjE="])
def test_a_wrong_page_is_refused(api: Api, query: str) -> None:
    body = refused(api.get(f"/v1/hosts?{query}"), 422, "EINVAL")
    assert body["errors"][0]["field"] == f"query {query.partition('=')[0]}"


def test_a_deleted_host_is_gone_with_its_history(api: Api) -> None:
    host = api.boot()
    with host.nothing_changes():
        assert host.delete(params={"dry_run": "true"}).status_code == 204
        refused(host.delete(headers={"If-Match": '"9"'}), 412, "ESTALE")
    gone = host.delete(headers={"If-Match": '"1"'})
    assert (gone.status_code, gone.content) == (204, b"")
    for path in ("", "events", "tasks", "dmesg", "audit"):
        refused(host.ask("GET", path), 404, "ENOENT")
    refused(host.delete(), 404, "ENOENT")


@pytest.mark.parametrize("name", ["nobody", "No", "a" * 200, "%00", "...", "a.b"])
def test_an_unknown_host_is_not_found_wherever_it_is_asked_for(api: Api, name: str) -> None:
    for path in ("hugepages", "hugepages/2048kB", "memory-blocks", "memory-blocks/1", "tasks", "tasks/1", "vmemmap",
                 "vmemmap/1", "pages/1", "deferred-frees", "faults", "faults/vmemmap-restore", "dmesg", "events",
                 "events/stream", "audit"):  # fmt: skip
        answer = api.get(f"/v1/hosts/{name}/{path}")
        refused(answer, 404, "ENOENT")
        assert len(answer.content) < 800


def test_a_body_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with serving(tmp_path, max_body_bytes=2000) as api:
        host = api.boot()
        files = {"/proc/meminfo": "x" * 2000}
        with host.nothing_changes():
            refused(api.post("/v1/hosts", {"name": "w", "files": files}), 413, "EFBIG")
            refused(api.ask("POST", "/v1/hosts/import?name=w", content=b"x" * 2001), 413, "EFBIG")

            async def drops() -> Any:
                for _ in range(30):
                    yield b"x" * 100

            refused(api.ask("POST", "/v1/hosts/import?name=w", content=drops()), 413, "EFBIG")
        assert [row["name"] for row in api.get("/v1/hosts").json()["items"]] == [host.name]


def test_a_bug_is_reported_without_a_trace(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, fn: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(api.app.state.service, "show", broken)
    answer = api.get("/v1/hosts/any")
    assert answer.status_code == 500
    assert problem_of(answer)["errno"] == "EIO"
    assert "secret" not in answer.text
