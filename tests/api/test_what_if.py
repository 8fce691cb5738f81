"""POST /v1/what-if and its jobs: answers at once or later, refusals, nothing stored."""

import time
from typing import Any

import pytest
from pydantic_core import to_json

from tests.api.conftest import NR, Api, problem_of
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
    answer = api.post("/v1/what-if", question(GROW, variants=variants))
    assert answer.status_code == 200, answer.text
    rows = answer.json()["variants"]
    assert [row["columns"]["steps.0.result.allocated"] for row in rows] == [1, 2, 3]
    assert api.get("/v1/jobs").json()["items"] == []


def test_who_prefers_a_job_gets_one_and_its_result_is_the_answer(api: Api) -> None:
    answer = api.post("/v1/what-if", question(GROW), headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    job = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    assert ended(api, job)["state"] == "done"
    assert api.get(f"/v1/jobs/{job}/result").content == to_json(ask(GROW))
    assert api.delete(f"/v1/jobs/{job}").status_code == 200
    assert problem_of(api.get(f"/v1/jobs/{job}"))["errno"] == "ENOENT"


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
        (question({"exit": "vm"}), 422, "steps[0].exit: no task step before this one is labelled 'vm'"),
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
