"""The client against the application over ASGI, and against addresses where no service is."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hugepool.client import Client, Refused, Unreachable
from tests.docs.server import free_port, running

SPEC = {"cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "1G"}]}
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("service")) as url, Client(url) as found:
        yield found


@pytest.fixture
def host(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"h{abs(hash(request.node.name))}"
    client.create_host(name, SPEC)
    yield name
    client.delete_host(name)


def test_a_host_is_created_forked_listed_and_deleted(client: Client, host: str) -> None:
    assert client.fork_host("copy", host)["memory"] == client.host(host)["memory"]
    assert [found["name"] for found in client.hosts()] == sorted(["copy", host])
    client.delete_host("copy")
    assert [found["name"] for found in client.hosts()] == [host]


def test_a_list_longer_than_a_page_is_read_to_its_end(
    client: Client, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hugepool.client.PAGE", 3)
    blocks = [block["block"] for block in client.memory_blocks(host)]
    assert blocks == list(range(8))


def test_a_pool_is_resized_overcommitted_used_and_drained(client: Client, host: str) -> None:
    assert client.resize(host, "2048kB", 8, node=0)["allocated"] == 8
    assert client.overcommit(host, "2048kB", 4)["after"]["nr_overcommit_hugepages"] == 4
    task = client.start_task(host, {"kind": "hugetlb", "count": 8, "touch": 2})
    assert client.touch(host, task["pid"], 3)["touched"] == 3
    assert [found["pid"] for found in client.tasks(host)] == [task["pid"]]
    assert client.hugepages(host, "2048kB")["free_hugepages"] == 3
    client.exit_task(host, task["pid"])
    assert client.drain(host)["freed"] == 0
    assert client.hugepages(host, "2048kB")["free_hugepages"] == 8
    assert client.audit(host)["ok"]


def test_blocks_ranges_faults_and_the_console_are_within_reach(client: Client, host: str) -> None:
    assert client.set_block_state(host, 5, "offline")["state"] == "offline"
    taken = client.alloc_contig(host, {"nr_pages": 512, "node": 0})
    assert client.free_contig(host, taken["id"])["start_pfn"] == taken["start_pfn"]
    assert client.set_fault(host, "hugepage-alloc", {"times": 1})["armed"]
    client.clear_fault(host, "hugepage-alloc")
    assert any("HugeTLB" in line for line in client.dmesg(host))


def test_a_virtio_mem_device_is_within_reach(client: Client, host: str) -> None:
    added = client.add_virtio_mem(host, {"id": "vm0", "node": 0, "max": "256M", "requested": "128M"})
    assert (added["plugged_bytes"], added["errno"]) == (128 << 20, None)
    assert client.request_virtio_mem(host, "vm0", 0)["plugged_bytes"] == 0
    assert client.retry_virtio_mem(host, "vm0")["steps"] == []
    assert client.remove_virtio_mem(host, "vm0") == {"id": "vm0"}


def test_snapshots_are_within_reach(client: Client, host: str) -> None:
    assert client.keep_snapshot(host, "ready")["name"] == "ready"
    client.resize(host, "2048kB", 8)
    assert client.reset(host, "ready")["hugepages"][0]["nr_hugepages"] == 0
    assert [kept["name"] for kept in client.snapshots(host)] == ["ready"]
    client.delete_snapshot(host, "ready")
    assert client.snapshots(host) == []


def test_a_refusal_carries_errno_reason_facts_and_what_was_kept(client: Client, host: str) -> None:
    client.resize(host, "2048kB", 4)
    client.set_fault(host, "vmemmap-restore", {"probability": 100, "times": -1})
    with pytest.raises(Refused) as caught:
        client.resize(host, "2048kB", 0)
    refused = caught.value
    assert (refused.status, refused.errno, refused.errno_number) == (507, "ENOMEM", 12)
    assert refused.reason == "injected-fault"
    assert refused.result is not None
    assert refused.result["after"]["surplus_hugepages"] == 4
    assert "4 of 4" in refused.detail
    assert "status" not in refused.facts


def test_terms_reach_the_service(client: Client, host: str) -> None:
    before = client.host(host)
    assert client.resize(host, "2048kB", 8, dry_run=True)["allocated"] == 8
    with pytest.raises(Refused, match="revision") as caught:
        client.resize(host, "2048kB", 8, if_match=before["revision"] + 5)
    assert caught.value.status == 412
    assert caught.value.facts["revision"] == before["revision"]
    assert client.host(host) == before
    for _ in range(2):
        assert client.resize(host, "2048kB", 8, idempotency_key="once")["allocated"] == 8
    assert client.host(host)["revision"] == before["revision"] + 1


def test_a_path_of_the_mirror_is_read_once_for_each_revision(client: Client, host: str) -> None:
    first = client.look(host, POOL)
    assert first is not None
    assert (first.content, first.entries) == (b"0\n", None)
    assert client.look(host, POOL, known=first.tag) is None
    assert client.write_file(host, POOL, "5\n") == "requested=5; nr_hugepages=5"
    changed = client.look(host, POOL, known=first.tag)
    assert changed is not None
    assert changed.content == b"5\n"


def test_files_are_read_folders_listed_and_not_the_other_way(client: Client, host: str) -> None:
    assert client.read_file(host, "/proc/meminfo").startswith("MemTotal:")
    assert client.list_dir(host, "/")[0] == {"name": "proc", "type": "directory", "mode": "0755"}
    with pytest.raises(IsADirectoryError):
        client.read_file(host, "/proc")
    with pytest.raises(NotADirectoryError):
        client.list_dir(host, "/proc/meminfo")
    with pytest.raises(Refused) as caught:
        client.read_file(host, "/proc/nosuch")
    assert caught.value.errno == "ENOENT"


def test_the_files_of_one_host_make_another(client: Client, host: str) -> None:
    names = ("meminfo", "zoneinfo", "buddyinfo", "vmstat", "cmdline")
    files = {f"/proc/{name}": client.read_file(host, f"/proc/{name}") for name in names}
    read = client.import_files("read", files, "5.14")
    client.delete_host("read")
    assert read["memory"] == client.host(host)["memory"]


def test_an_address_without_a_service_is_reported_as_such() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as nowhere, pytest.raises(Unreachable, match=url):
        nowhere.host("lab")
    for address in ("127.0.0.1:8000", "http://[", "ftp://127.0.0.1"):
        with pytest.raises(Unreachable, match="no service at"), Client(address) as nowhere:
            nowhere.host("lab")


def test_a_service_that_does_not_answer_in_time_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_seconds=0.2) as waiting, pytest.raises(Unreachable, match="timed out"):
            waiting.host("lab")


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1])])
def test_another_service_at_the_address_is_no_hugepool(answer: httpx.Response) -> None:
    with Client(transport=httpx.MockTransport(lambda _: answer)) as client, pytest.raises(Unreachable):
        client.host("lab")


def test_an_error_that_is_no_problem_document_is_a_refusal_by_its_status() -> None:
    answer = httpx.Response(502, text="bad gateway")
    with Client(transport=httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(Refused, match="status 502") as caught:
            client.host("lab")
        assert (caught.value.errno, caught.value.facts) == ("EIO", {})


def test_what_if_sends_a_document_as_it_is_and_answers_with_the_bytes_of_the_service() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b'{ "ok":true }')

    with Client(transport=httpx.MockTransport(answer)) as client:
        assert client.what_if(b'{"host":  "lab"}') == b'{ "ok":true }'
        assert client.what_if({"host": "lab"}) == b'{ "ok":true }'
    assert [request.content for request in seen] == [b'{"host":  "lab"}', b'{"host":"lab"}']
    assert {request.headers["content-type"] for request in seen} == {"application/json"}


def test_names_are_encoded_and_cannot_leave_their_place(client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.host("../../healthz/live")
    assert caught.value.status in {404, 422}


def test_the_client_imports_httpx_and_the_standard_library_only() -> None:
    text = (Path(__file__).parents[2] / "app" / "hugepool" / "client.py").read_text()
    imported = {
        line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))
    }
    assert imported - sys.stdlib_module_names == {"httpx"}


def test_what_if_waits_for_a_job_and_gives_its_result_as_it_is() -> None:
    at = iter([{"done": 1, "total": 2, "ended_at": None}, {"done": 2, "total": 2, "ended_at": "now"}])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, json={"id": "77"})
        if request.url.path == "/v1/jobs/77":
            return httpx.Response(200, json=next(at))
        assert request.url.path == "/v1/jobs/77/result"
        return httpx.Response(200, content=b'{ "ok":true }')

    progress: list[tuple[int, int]] = []
    with Client(transport=httpx.MockTransport(answer)) as client:
        assert client.what_if({"host": "lab"}, lambda *now: progress.append(now)) == b'{ "ok":true }'
    assert progress == [(1, 2), (2, 2)]


def test_a_plan_is_asked_of_a_host() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/hosts/lab/plans/savings")
        return httpx.Response(200, content=request.content)

    with Client(transport=httpx.MockTransport(answer)) as client:
        assert client.plan("lab", "savings", b'{"count":  4}') == b'{"count":  4}'
