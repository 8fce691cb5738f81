"""dry_run, ETag, If-Match, If-None-Match, Idempotency-Key."""

import pytest

from tests.api.conftest import NR, Api, HostApi, refused

READS = ("", "hugepages", "hugepages/2048kB", "memory-blocks", "memory-blocks/1", "tasks", "vmemmap", "vmemmap/1",
         "pages/1", "deferred-frees", "faults", "faults/vmemmap-restore", "dmesg", "events", "audit")  # fmt: skip


@pytest.mark.parametrize("path", READS)
def test_every_read_has_the_revision_and_is_304_while_it_stays(host: HostApi, path: str) -> None:
    first = host.ask("GET", path)
    seen = first.headers["etag"]
    assert (first.status_code, seen[:3]) == (200, '"1-')
    for tag in (seen, f"W/{seen}", f'"0", {seen}', "*"):
        again = host.ask("GET", path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", seen)
    host.put(NR, {"count": 1})
    later = host.ask("GET", path, headers={"If-None-Match": seen})
    assert (later.status_code, later.headers["etag"][:3]) == (200, '"2-')


def test_a_later_host_of_the_name_has_other_tags(api: Api) -> None:
    body = {"name": "phoenix", "spec": {"nodes": [{"memory": "1G"}]}}
    first = api.post("/v1/hosts", body).headers["etag"]
    path = f"/v1/hosts/phoenix/{NR}"
    api.delete("/v1/hosts/phoenix")
    second = api.post("/v1/hosts", body).headers["etag"]
    assert first != second
    assert api.get("/v1/hosts/phoenix", headers={"If-None-Match": first}).status_code == 200
    assert api.get("/v1/hosts/phoenix/fs/proc/meminfo", headers={"If-None-Match": first}).status_code == 200
    answer = api.put(path, {"count": 1}, headers={"If-Match": first})
    assert (refused(answer, 412, "ESTALE")["revision"], answer.headers["etag"]) == (1, second)
    assert refused(api.delete("/v1/hosts/phoenix", headers={"If-Match": first}), 412, "ESTALE")
    assert api.get("/v1/hosts/phoenix").json()["hugepages"][0]["nr_hugepages"] == 0
    assert api.put(path, {"count": 1}, headers={"If-Match": second}).status_code == 200
    assert api.delete("/v1/hosts/phoenix", headers={"If-Match": '"2"'}).status_code == 204


def test_a_dry_run_tells_the_answer_and_leaves_everything(host: HostApi) -> None:
    with host.nothing_changes():
        dry = host.put(f"{NR}?dry_run=true", {"count": 8})
    assert dry.headers["etag"].startswith('"1-')
    wet = host.put(NR, {"count": 8})
    assert wet.json() == dry.json()
    assert wet.headers["etag"].startswith('"2-')


def test_a_change_meets_the_revision_that_was_seen(host: HostApi) -> None:
    assert (
        host.put(NR, {"count": 1}, headers={"If-Match": host.ask("GET").headers["etag"]}).status_code == 200
    )
    assert host.put(NR, {"count": 3}, headers={"If-Match": '"2"'}).status_code == 200
    assert host.put(NR, {"count": 2}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("tag", ['"2"', '"abc"', 'W/"1"', '"01x"', '"1-00000000"', '"1-"'])
def test_a_change_that_saw_another_revision_is_refused(host: HostApi, tag: str) -> None:
    with host.nothing_changes():
        answer = host.put(NR, {"count": 1}, headers={"If-Match": tag})
        assert refused(answer, 412, "ESTALE")["revision"] == 1
        assert answer.headers["etag"].startswith('"1-')


@pytest.mark.parametrize("tag", ["1", '"1', '"1", "2"', "W/1", ""])
def test_a_malformed_if_match_is_refused(host: HostApi, tag: str) -> None:
    with host.nothing_changes():
        body = refused(host.put(NR, {"count": 1}, headers={"If-Match": tag}), 422, "EINVAL")
    assert body["errors"][0]["field"] == "header If-Match"


def test_the_same_key_and_body_gets_the_stored_answer(host: HostApi) -> None:
    key = {"Idempotency-Key": f"{host.name}-a"}
    first = host.put(NR, {"count": 8}, headers=key)
    host.put(NR, {"count": 3})
    with host.nothing_changes():
        again = host.put(NR, {"count": 8}, headers=key)
    assert again.json() == first.json()
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers


def test_the_same_key_with_another_request_is_refused(host: HostApi) -> None:
    key = {"Idempotency-Key": f"{host.name}-b"}
    host.put(NR, {"count": 8}, headers=key)
    with host.nothing_changes():
        refused(host.put(NR, {"count": 9}, headers=key), 422, "EINVAL")
        refused(host.post("deferred-frees/drain", headers=key), 422, "EINVAL")


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "ä"])
def test_a_malformed_key_is_refused(host: HostApi, key: str) -> None:
    with host.nothing_changes():
        headers = {b"Idempotency-Key": key.encode()}
        body = refused(host.put(NR, {"count": 1}, headers=headers), 422, "EINVAL")
    assert body["errors"][0]["field"] == "header Idempotency-Key"


def test_creating_and_deleting_are_replayed_too(host: HostApi) -> None:
    name = f"{host.name}-again"
    key = {"Idempotency-Key": name}
    body = {"name": name, "fork_of": host.name}
    first = host.api.post("/v1/hosts", body, headers=key)
    again = host.api.post("/v1/hosts", body, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["location"] == first.headers["location"]
    gone = {"Idempotency-Key": f"{name}-gone"}
    assert host.api.delete(f"/v1/hosts/{name}", headers=gone).status_code == 204
    replay = host.api.delete(f"/v1/hosts/{name}", headers=gone)
    assert (replay.status_code, replay.headers["idempotent-replay"]) == (204, "true")


def test_a_replayed_creation_tells_of_the_host_as_it_was_then(host: HostApi) -> None:
    name = f"{host.name}-then"
    key = {"Idempotency-Key": name}
    body = {"name": name, "spec": {"nodes": [{"memory": "1G"}]}}
    first = host.api.post("/v1/hosts", body, headers=key)
    assert host.api.get(f"/v1/hosts/{name}").content == first.content
    host.api.delete(f"/v1/hosts/{name}")
    assert host.api.post("/v1/hosts", body, headers=key).content == first.content
    other = host.api.post("/v1/hosts", {"name": name, "fork_of": host.name}).json()
    assert host.api.post("/v1/hosts", body, headers=key).content == first.content
    assert other["created_at"] > first.json()["created_at"]


def test_a_replayed_refusal_names_no_location(host: HostApi) -> None:
    key = {"Idempotency-Key": f"{host.name}-no-task"}
    body = {"kind": "hugetlb", "count": 8}
    first, again = (refused(host.post("tasks", body, headers=key), 507, "ENOMEM") for _ in range(2))
    assert first == again
    answer = host.post("tasks", body, headers=key)
    assert answer.headers["idempotent-replay"] == "true"
    assert "location" not in answer.headers


def test_a_refusal_whose_change_is_kept_is_replayed_with_its_result(host: HostApi) -> None:
    host.put(NR, {"count": 8})
    host.put("faults/vmemmap-restore", {"times": 2})
    key = {"Idempotency-Key": f"{host.name}-c"}
    first = host.put(NR, {"count": 0}, headers=key)
    with host.nothing_changes():
        again = host.put(NR, {"count": 0}, headers=key)
    assert (again.status_code, again.json()) == (507, first.json())
    assert again.headers["idempotent-replay"] == "true"


@pytest.mark.parametrize("word", ["maybe", "2", ""])
def test_a_malformed_dry_run_is_refused(host: HostApi, word: str) -> None:
    with host.nothing_changes():
        refused(host.put(f"{NR}?dry_run={word}", {"count": 1}), 422, "EINVAL")
