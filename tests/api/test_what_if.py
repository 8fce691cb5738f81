"""POST /v1/what-if and its jobs: answers at once or later, refusals, nothing stored."""

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json

from hugepool.forms.plans import ChurnBody, HeadroomBody, MaxPoolBody, OfflineBody, PlacementBody, SavingsBody
from hugepool.mm.machine.digest import fork
from hugepool.whatif.plans import Question
from hugepool.whatif.plans import ask as ask_plan
from tests.api.conftest import NR, Api, problem_of, serving
from tests.whatif.ask import ask, question

GROW = {"resize": {"count": 8}}
PATIENCE_SECONDS = 60


def ended(api: Api, job: str) -> dict[str, Any]:
    """The job when it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = api.get(f"/v1/jobs/{job}").json()
        if found["ended_at"] is not None:
            return found
        time.sleep(0.05)
    raise AssertionError(f"job {job} did not end")


def test_the_answer_is_the_engines_byte_for_byte(api: Api) -> None:
    answer = api.post("/v1/what-if", question(GROW))
    assert (answer.status_code, answer.content) == (200, to_json(ask(GROW)))


def test_a_question_about_a_stored_host_changes_nothing_of_it(api: Api) -> None:
    host = api.boot("1G")
    host.put(NR, {"count": 5})
    before = host.get("")
    answer = api.post("/v1/what-if", question({"resize": {"count": 0}}, host=host.name)).json()
    assert answer["steps"][0]["result"]["freed"] == 5
    assert host.get("") == before
    assert host.get("events")["items"][-1]["revision"] == before["revision"]


def test_variants_are_answered_as_a_table(api: Api) -> None:
    variants = {"grid": {"steps.0.resize.count": [1, 2, 3]}, "columns": ["steps.0.result.allocated"]}
    jobs = api.get("/v1/jobs").json()["items"]
    answer = api.post("/v1/what-if", question(GROW, variants=variants))
    assert answer.status_code == 200, answer.text
    rows = answer.json()["variants"]
    assert [row["columns"]["steps.0.result.allocated"] for row in rows] == [1, 2, 3]
    assert api.get("/v1/jobs").json()["items"] == jobs


def test_who_prefers_a_job_gets_one_and_its_result_is_the_answer(api: Api) -> None:
    answer = api.post("/v1/what-if", question(GROW), headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    job = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    assert ended(api, job)["state"] == "done"
    assert api.get(f"/v1/jobs/{job}/result").content == to_json(ask(GROW))
    assert api.delete(f"/v1/jobs/{job}").status_code == 200
    assert problem_of(api.get(f"/v1/jobs/{job}"))["errno"] == "ENOENT"


def test_a_client_may_wait_for_the_end_of_a_job(api: Api) -> None:
    document = question(GROW, host={"spec": {"nodes": [{"memory": "2G"}]}})
    job = api.post("/v1/what-if", document, headers={"Prefer": "respond-async, wait=0"})
    assert (job.status_code, job.headers["preference-applied"]) == (202, "respond-async, wait=0")
    address = job.headers["location"]
    row = api.get(address, headers={"Prefer": "wait=30"})
    assert (row.json()["state"], row.headers["preference-applied"]) == ("done", "wait=30")
    result = api.get(f"{address}/result", headers={"Prefer": "wait=3000"})
    assert (result.status_code, result.headers["preference-applied"]) == (200, "wait=60")
    assert api.delete(address).status_code == 200
    now = api.post("/v1/what-if", document, headers={"Prefer": "wait=30"})
    assert (now.status_code, now.headers["preference-applied"]) == (200, "wait=30")
    assert now.content == result.content


@pytest.mark.parametrize("prefer", ["wait", "wait=-1", "wait=soon", "handling=lenient", "return=minimal"])
def test_what_is_no_preference_here_is_not_said_to_be_applied(api: Api, prefer: str) -> None:
    answer = api.post("/v1/what-if", question(GROW), headers={"Prefer": prefer})
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


def test_a_machine_that_cannot_be_is_a_refusal_now_and_later(api: Api) -> None:
    document = question(GROW, host={"spec": {"nodes": [{"memory": "1M"}]}})
    now = api.post("/v1/what-if", document)
    job = api.post("/v1/what-if", document, headers={"Prefer": "respond-async"}).json()["id"]
    ended(api, job)
    later = api.get(f"/v1/jobs/{job}/result")
    for answer in (now, later):
        assert answer.status_code == 422
        assert problem_of(answer)["detail"].startswith("nodes[0].memory: must be at least 128M")
    api.delete(f"/v1/jobs/{job}")


@pytest.mark.parametrize(
    ("document", "status", "detail"),
    [
        (question(GROW, host="nobody"), 404, "no host 'nobody'"),
        (question({"launch": 7}), 422, "steps[0]: needs one word that says what to do"),
        (question({"resize": {"count": 1}, "offline": 3}), 422, "a step does one thing"),
        (
            question({"exit": "vm"}),
            422,
            "steps[0].exit: no task or fork step before this one is labelled 'vm'",
        ),
        (question(GROW, variants={"grid": {"steps.3.offline": [1]}}), 422, "there is no 'steps.3'"),
        ({"steps": [GROW]}, 422, "host: is required"),
        (question(), 422, "steps: must have at least 1"),
        (question(GROW, host=7), 422, "host: must be the name of a stored host"),
        (question(GROW, extra=1), 422, "extra: is not a known field"),
    ],
)
def test_what_cannot_be_asked_is_refused(api: Api, document: Any, status: int, detail: str) -> None:
    answer = api.post("/v1/what-if", document)
    assert answer.status_code == status
    assert detail in problem_of(answer)["detail"]


def test_the_schema_is_served(api: Api) -> None:
    answer = api.get("/v1/what-if/scenario.schema.json")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json()["title"] == "Scenario"


# -- plans -------------------------------------------------------------------------------------------------

PLANS: dict[str, dict[str, Any]] = {
    "max-pool": {"keep": "512M"},
    "savings": {"count": 10},
    "headroom": {"count": 4, "points": 3},
    "offline": {"memory": "128M", "blocks": [6, 7]},
    "placement": {"memory": "32M"},
    "churn": {"rounds": 1, "seeds": 2},
}
BODIES: dict[str, Any] = {
    "max-pool": MaxPoolBody,
    "savings": SavingsBody,
    "headroom": HeadroomBody,
    "offline": OfflineBody,
    "placement": PlacementBody,
    "churn": ChurnBody,
}


@pytest.mark.parametrize("word", PLANS)
def test_a_plan_is_the_engines_answer_and_changes_nothing(api: Api, word: str) -> None:
    host = api.boot("1G")
    host.put(NR, {"count": 8})
    before, jobs = host.get(""), api.get("/v1/jobs").json()["items"]
    answer = api.post(f"/v1/hosts/{host.name}/plans/{word}", PLANS[word])
    assert answer.status_code == 200, answer.text
    assert host.get("") == before
    machine, _ = api.app.state.service.read(host.name, fork)
    body = BODIES[word].model_validate(PLANS[word])
    assert answer.content == to_json(ask_plan(Question(word, machine, body)))
    assert [job["id"] for job in api.get("/v1/jobs").json()["items"]] == [job["id"] for job in jobs]


def test_a_plan_can_be_a_job(api: Api) -> None:
    host = api.boot("1G")
    address = f"/v1/hosts/{host.name}/plans/savings"
    now = api.post(address, {"count": 3})
    job = api.post(address, {"count": 3}, headers={"Prefer": "respond-async"})
    assert job.status_code == 202
    assert ended(api, job.json()["id"])["kind"] == "savings"
    assert api.get(f"/v1/jobs/{job.json()['id']}/result").content == now.content
    api.delete(f"/v1/jobs/{job.json()['id']}")


@pytest.mark.parametrize(
    ("word", "body", "status", "detail"),
    [
        ("max-pool", {}, 422, "keep: is required"),
        ("max-pool", {"keep": "1G", "size": "4kB"}, 422, "size: must be '2048kB' or '1048576kB'"),
        ("savings", {"count": 0}, 422, "count: must be 1 or more"),
        ("savings", {"count": 4, "node": 5}, 404, "node 5"),
        ("headroom", {}, 409, "there is no free huge page of 2048kB to give back"),
        ("offline", {"blocks": [999]}, 404, "no memory block 999"),
        ("placement", {"memory": "1G", "nodes": [7]}, 422, "node 7 has no memory"),
        ("placement", {"memory": "1G", "nodes": []}, 422, "nodes: must have at least 1"),
        ("churn", {"unmovable_percent": 101}, 422, "unmovable_percent: must be 100 or less"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    api: Api, word: str, body: dict[str, Any], status: int, detail: str
) -> None:
    host = api.boot("1G")
    answer = api.post(f"/v1/hosts/{host.name}/plans/{word}", body)
    assert (answer.status_code, detail in problem_of(answer)["detail"]) == (status, True), answer.text


def test_a_plan_of_no_host_is_refused(api: Api) -> None:
    assert api.post("/v1/hosts/nobody/plans/savings", {"count": 1}).status_code == 404


def test_what_takes_longer_than_the_service_waits_goes_on_as_a_job(tmp_path: Path) -> None:
    with serving(tmp_path, what_if_wait_seconds=0.01) as api:
        host = api.boot("1G")
        answer = api.post(f"/v1/hosts/{host.name}/plans/churn", {"rounds": 2, "seeds": 2})
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers
        job = answer.json()["id"]
        at_work = api.get(f"/v1/jobs/{job}/result")
        assert at_work.status_code in {200, 409}
        assert ended(api, job)["state"] == "done"
        assert api.get(f"/v1/jobs/{job}/result").json()["rounds"] == 2


def test_a_cancelled_job_has_no_result_and_no_work(tmp_path: Path) -> None:
    with serving(tmp_path, what_if_wait_seconds=0.01) as api:
        host = api.boot("2G")
        body = {"rounds": 10_000, "seeds": 200}
        job = api.post(f"/v1/hosts/{host.name}/plans/churn", body).json()["id"]
        assert api.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"
        assert api.get(f"/v1/jobs/{job}/result").status_code == 404
        assert host.get("")["name"] == host.name
