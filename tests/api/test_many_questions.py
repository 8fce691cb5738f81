"""Many questions at once, questions nobody waits for any more, and changes so large that they are jobs."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.access import Caller, Role
from hugepool.api import access, touching
from hugepool.harness.server import Server
from hugepool.harness.server import serving as serving_process
from hugepool.jobs import NoSuchJob
from hugepool.whatif import variants
from tests.api.conftest import NR, Api, HostApi, problem_of, refused, serving

PATIENCE_SECONDS = 60.0
GROW = {"resize": {"count": 3}}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- questions ---------------------------------------------------------------------------------------------


def test_64_questions_at_once_are_all_answered_and_nobody_else_waits(tmp_path: Path) -> None:
    with serving(tmp_path, job_workers=1) as api:
        host = api.boot()
        question = {"host": host.name, "steps": [GROW]}

        async def at_once() -> tuple[list[int], float]:
            asked = [asyncio.create_task(api.client.post("/v1/what-if", json=question)) for _ in range(64)]
            await asyncio.sleep(0.1)
            began = time.monotonic()
            assert (await api.client.get(host.path)).status_code == 200
            took = time.monotonic() - began
            return [(await one).status_code for one in asked], took

        statuses, took = api.portal.call(at_once)
        assert statuses == [200] * 64
        assert took < PATIENCE_SECONDS / 10


def test_too_many_questions_are_refused_with_a_time_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, job_workers=1, jobs_unfinished=2) as api:
        host = api.boot("2G")
        body = {"rounds": 10_000, "seeds": 200}
        url, later = f"{host.path}/plans/churn", {"Prefer": "respond-async"}
        jobs = [api.post(url, body, headers=later).json()["id"] for _ in range(2)]
        answer = api.post(url, body, headers=later)
        refused(answer, 503, "EAGAIN")
        assert int(answer.headers["retry-after"]) > 0
        for job in jobs:
            assert api.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"HUGEPOOL_WHAT_IF_WAIT_SECONDS": "60", "HUGEPOOL_JOB_WORKERS": "1"}
    with serving_process(tmp_path_factory.mktemp("questions"), settings=settings) as found:
        found.client.create_host("lab", {"nodes": [{"memory": "2G"}]})
        yield found


def test_a_question_is_ended_when_who_asked_has_gone(server: Server) -> None:
    url = f"{server.url}/v1/hosts/lab/plans/churn"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json={"rounds": 10_000, "seeds": 200}, timeout=httpx.Timeout(30.0, read=1.0))

    def states() -> list[str]:
        return [job["state"] for job in httpx.get(f"{server.url}/v1/jobs").json()["items"]]

    until(lambda: states() == ["cancelled"])


def test_variants_are_looked_at_when_their_turn_comes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    host, looked = api.boot(), []
    variant = variants.variant

    def counted(*args: Any) -> Any:
        looked.append(args)
        return variant(*args)

    monkeypatch.setattr(variants, "variant", counted)
    grid = {"steps.0.resize.count": list(range(1000)), "steps.0.resize.size": ["2048kB"] * 5}
    question = {"host": host.name, "steps": [GROW], "variants": {"grid": grid}}
    job = api.post("/v1/what-if", question, headers={"Prefer": "respond-async"})
    assert job.status_code == 202
    assert not looked  # not in this process
    api.delete(f"/v1/jobs/{job.json()['id']}")


@pytest.mark.parametrize(
    "wrong", [{"steps.0.resize.count": -1}, {"steps.9.offline": 1}, {"variants.grid": {}}]
)
def test_a_malformed_variant_refuses_the_question(api: Api, wrong: dict[str, Any]) -> None:
    host = api.boot()
    rows = [{"steps.0.resize.count": 1}, wrong, {"steps.0.resize.count": 2}]
    question = {"host": host.name, "steps": [GROW], "variants": {"list": rows}}
    with host.nothing_changes():
        answer = api.post("/v1/what-if", question)
        errors = refused(answer, 422, "EINVAL")["errors"]
    assert errors[0]["field"] == "variants.list[1]"


def test_a_question_about_more_hosts_than_are_copied_is_refused(api: Api) -> None:
    rows = [{"host": f"h-{i}"} for i in range(variants.MAX_HOSTS + 1)]
    question = {"host": "h-0", "steps": [GROW], "variants": {"list": rows}}
    assert "stored hosts" in refused(api.post("/v1/what-if", question), 422, "EINVAL")["detail"]


# -- whose jobs --------------------------------------------------------------------------------------------


@contextmanager
def as_caller(monkeypatch: pytest.MonkeyPatch, name: str, role: Role) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(access, "ANYBODY", Caller(name, role))
        yield


def test_a_job_is_seen_by_its_owner_and_by_admins(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    host = api.boot()
    question = {"host": host.name, "steps": [GROW]}
    with as_caller(monkeypatch, "alice", Role.READ):
        job = api.post("/v1/what-if", question, headers={"Prefer": "respond-async"}).json()["id"]
        assert [row["id"] for row in api.get("/v1/jobs").json()["items"]] == [job]
    with as_caller(monkeypatch, "bob", Role.WRITE):
        assert api.get("/v1/jobs").json()["items"] == []
        for method, path in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", "")):
            assert refused(api.ask(method, f"/v1/jobs/{job}{path}"), 404, "ENOENT")
    with as_caller(monkeypatch, "root", Role.ADMIN):
        assert api.delete(f"/v1/jobs/{job}").status_code == 200
    with pytest.raises(NoSuchJob):
        api.app.state.jobs.get(job)


# -- huge touches ------------------------------------------------------------------------------------------


@pytest.fixture
def piecewise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 4 pages."""
    monkeypatch.setattr(touching, "AT_ONCE", 4)


def task(count: int, touch: int) -> dict[str, Any]:
    return {"kind": "hugetlb", "count": count, "touch": touch}


def without(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in names}


def test_a_touch_in_pieces_answers_as_one_that_is_none(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = api.boot(), api.boot()
    answers = []
    for host, piece in ((whole, 1000), (pieces, 4)):
        monkeypatch.setattr(touching, "AT_ONCE", piece)
        host.put(NR, {"count": 30})
        started = host.post("tasks", task(25, 11))
        assert started.status_code == 201
        assert started.headers["location"] == f"{host.path}/tasks/{started.json()['pid']}"
        touched = host.post(f"tasks/{started.json()['pid']}/touch", {"count": 14})
        assert touched.status_code == 200
        assert touched.headers["etag"] == host.ask("GET").headers["etag"]
        answers.append((started.json(), touched.json(), host.counters(), host.get("tasks")))
        assert host.get("audit")["ok"]
    assert answers[0] == answers[1]
    assert answers[0][0]["touched"] == 11
    assert answers[0][1]["touched"] == 14
    sizes = [e["data"]["count"] for e in pieces.get("events")["items"] if e["type"] == "HugePagesTouched"]
    assert sizes == [4, 3, 4, 4, 4, 2]
    assert api.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize("word", ["read", "write"])
def test_reads_and_writes_in_pieces_answer_as_one(
    api: Api, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    answers = []
    for piece in (1000, 4):
        monkeypatch.setattr(touching, "AT_ONCE", piece)
        host = api.boot()
        host.put(NR, {"count": 30})
        pid = host.post("tasks", task(25, 0)).json()["pid"]
        done = host.post(f"tasks/{pid}/{word}", {"from": 3, "count": 14})
        beyond = host.post(f"tasks/{pid}/{word}", {"from": 20, "count": 14})
        answers.append((done.json(), beyond.status_code, host.counters(), host.get("tasks")))
        assert host.get("audit")["ok"]
    assert answers[0] == answers[1]
    assert answers[0][0]["touched"] == 14


def test_a_large_fallocate_is_a_job_of_one_piece(api: Api, piecewise: None) -> None:
    host = api.boot()
    host.put(NR, {"count": 10})
    path, body = "files/dev/hugepages/f", {"op": "fallocate", "count": 8}
    job = host.post(path, body, headers={"Prefer": "respond-async"})
    assert job.status_code == 202
    until(lambda: api.get(job.headers["location"]).json()["state"] == "done")
    assert api.get(f"{job.headers['location']}/result").json()["allocated"] == 8
    full = refused(host.post(path, {**body, "count": 20}), 507, "ENOSPC")
    assert full["result"]["allocated"] == 2
    assert host.get(path)["count"] == 8
    api.delete(job.headers["location"])


def test_a_touch_in_pieces_ends_with_the_pool(api: Api, piecewise: None) -> None:
    host = api.boot()
    host.put(NR, {"count": 10})
    answer = host.post("tasks", {**task(30, 20), "noreserve": True})
    assert (answer.status_code, answer.json()["touched"], answer.json()["signal"]) == (201, 10, "SIGBUS")


def test_a_touch_that_is_refused_is_refused_as_before(api: Api, piecewise: None) -> None:
    host = api.boot()
    host.put(NR, {"count": 10})
    with host.nothing_changes():
        refused(host.post("tasks", task(30, 20)), 507, "ENOMEM")
        refused(host.post("tasks/99/touch", {"count": 20}), 404, "ENOENT")
        refused(host.post("tasks", task(8, 8), headers={"If-Match": '"99"'}), 412, "ESTALE")
        refused(api.post("/v1/hosts/nobody/tasks", task(8, 8)), 404, "ENOENT")
        rehearsed = host.post("tasks", task(8, 8), params={"dry_run": "true"})
        assert (rehearsed.status_code, rehearsed.json()["touched"]) == (201, 8)


def test_a_touch_with_a_key_is_one_piece_and_given_again(api: Api, piecewise: None) -> None:
    host = api.boot()
    host.put(NR, {"count": 10})
    first, again = (host.post("tasks", task(10, 9), headers={"Idempotency-Key": "touch"}) for _ in range(2))
    assert (first.status_code, first.json()["touched"]) == (201, 9)
    assert (again.content, again.headers["idempotent-replay"]) == (first.content, "true")
    assert len(host.get("tasks")["items"]) == 1


def test_a_touch_can_be_a_job_and_the_host_is_free_between_its_pieces(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touching, "AT_ONCE", 1)
    host = api.boot()
    host.put(NR, {"count": 100})
    service, reached, go = api.app.state.service, threading.Event(), threading.Event()
    execute = service.execute

    def slowly(name: str, *args: Any, **more: Any) -> Any:
        reply = execute(name, *args, **more)
        if reply.data.get("touched") == 50:
            reached.set()
            go.wait(PATIENCE_SECONDS)
        return reply

    monkeypatch.setattr(service, "execute", slowly)
    started = host.post("tasks", task(80, 80), headers={"Prefer": "respond-async"})
    assert started.status_code == 202
    assert reached.wait(PATIENCE_SECONDS)
    where = started.headers["location"]
    assert api.get(where).json()["done"] == 49
    assert host.counters()["free_hugepages"] == 50
    assert host.put("hugepages/2048kB/nr_overcommit_hugepages", {"count": 1}).status_code == 200
    go.set()
    until(lambda: api.get(where).json()["state"] == "done")
    answer = api.get(f"{where}/result")
    assert (answer.status_code, answer.json()["touched"]) == (201, 80)
    assert answer.headers["location"].startswith(f"{host.path}/tasks/")
    assert json.dumps(api.get(where).json()["result"]) == json.dumps(answer.json())
    assert host.get("audit")["ok"]
    api.delete(where)


def test_a_task_that_ends_meanwhile_is_reported_with_what_was_touched(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touching, "AT_ONCE", 2)
    host: HostApi = api.boot()
    host.put(NR, {"count": 20})
    service = api.app.state.service
    execute = service.execute

    def ends_the_task(name: str, *args: Any, **more: Any) -> Any:
        reply = execute(name, *args, **more)
        if reply.data.get("touched") == 4:
            monkeypatch.setattr(service, "execute", execute)
            assert host.delete(f"tasks/{reply.data['pid']}").status_code == 200
        return reply

    monkeypatch.setattr(service, "execute", ends_the_task)
    answer = host.post("tasks", task(10, 10))
    assert answer.status_code == 404
    assert problem_of(answer)["result"]["touched"] == 4
    assert host.get("audit")["ok"]
