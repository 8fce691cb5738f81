"""Everything that falls short or is refused says why in sentences, and what would help helps."""

from typing import Any

import pytest

from hugepool.mm.machine.reasons import Reason
from hugepool.whatif.steps import STEPS
from tests.api.conftest import Api, HostApi, refused

POOL = "hugepages/2048kB/nr_hugepages"
TEXT = {"Accept": "text/plain"}


def run(host: HostApi, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The steps of a remedy on a copy of the host."""
    answer = host.api.post("/v1/what-if", {"host": host.name, "steps": steps})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_growth_that_falls_short_says_how_much_is_missing_and_why(host: HostApi) -> None:
    short = host.put(POOL, {"count": 9000}).json()["shortfall"]
    have = host.counters()["nr_hugepages"]
    assert short["summary"].startswith(f"9000 huge pages of 2048kB were asked for, and there are {have}: ")
    assert f"{9000 - have} are missing" in short["summary"]
    assert short["remedies"][-1]["text"] == f"Ask for the {have} pages that fit."
    assert run(host, short["remedies"][-1]["steps"])["steps"][0]["result"]["shortfall"] is None


def test_what_is_stuck_as_surplus_comes_back_by_the_remedy(host: HostApi) -> None:
    host.put(POOL, {"count": 20})
    host.put("faults/vmemmap-restore", {})
    problem = refused(host.put(POOL, {"count": 0}), 507, "ENOMEM")
    assert problem["type"] == "/problems/injected-fault"
    assert problem["summary"].startswith("20 of 20 huge pages could not be freed")
    done = run(host, problem["remedies"][0]["steps"])
    assert done["steps"][-1]["counters"]["2048kB"]["nr_hugepages"] == 0
    host.delete("faults/vmemmap-restore")
    short = host.put(POOL, {"count": 0}).json()["shortfall"]
    assert "20 are left over" in short["summary"]
    text = host.ask("GET", "hugepages/2048kB/explain", headers=TEXT).text
    assert "20 are surplus" in text
    done = run(host, short["remedies"][0]["steps"])
    assert done["steps"][-1]["counters"]["2048kB"]["nr_hugepages"] == 0


def test_pages_in_use_name_their_tasks(host: HostApi) -> None:
    host.put(POOL, {"count": 20})
    pid = host.post("tasks", {"kind": "hugetlb", "count": 9, "touch": 4}).json()["pid"]
    short = host.put(POOL, {"count": 0}).json()["shortfall"]
    assert str(pid) in short["remedies"][0]["text"]
    assert short["remedies"][0]["steps"] == [{"exit": pid}]


def test_a_mapping_beyond_the_pool_says_what_to_grow(host: HostApi) -> None:
    host.put(POOL, {"count": 5})
    body = {"kind": "hugetlb", "count": 12, "touch": 12}
    problem = refused(host.post("tasks", body), 507, "ENOMEM")
    for remedy in problem["remedies"]:
        assert run(host, [*remedy["steps"], {"task": body}])["steps"][-1]["errno"] is None, remedy


def test_memory_that_is_refused_names_who_has_it_and_not_who_asked(host: HostApi) -> None:
    pid = host.post("tasks", {"kind": "kernel", "memory": "300M"}).json()["pid"]
    body = {"kind": "kernel", "memory": "700M"}
    problem = refused(host.post("tasks", body), 507, "ENOMEM")
    assert problem["remedies"][0]["steps"] == [{"exit": pid}]
    assert run(host, [{"exit": pid}, {"task": body}])["refused"] == 0


@pytest.mark.parametrize("count", [None, 0, 30, 99_999])
def test_explaining_changes_nothing(host: HostApi, count: int | None) -> None:
    host.put(POOL, {"count": 20})
    with host.nothing_changes():
        query = {} if count is None else {"count": count}
        found = host.get("hugepages/2048kB/explain", params=query)
        assert found["summary"]
        text = host.ask("GET", "hugepages/2048kB/explain", params=query, headers=TEXT).text
        assert text.splitlines()[0] == found["summary"]
    if count is not None:
        assert found["facts"]["after"] == host.put(POOL, {"count": count}).json()["after"]


def test_explaining_what_is_not_there_is_refused(host: HostApi) -> None:
    refused(host.ask("GET", "hugepages/16kB/explain"), 404, "ENOENT")
    refused(host.ask("GET", "hugepages/2048kB/explain", params={"node": 7}), 404, "ENOENT")


def test_strict_answers_an_error_and_keeps_what_the_kernel_keeps(host: HostApi) -> None:
    problem = refused(host.put(POOL, {"count": 9000}, params={"strict": "true"}), 409, "EBUSY")
    assert problem["result"]["after"]["nr_hugepages"] == host.counters()["nr_hugepages"] > 0
    assert problem["reason"] == "watermark"
    assert host.put(POOL, {"count": 3}, params={"strict": "true"}).status_code == 200
    path = "fs/proc/sys/vm/nr_hugepages"
    write = host.ask("PUT", path, content=b"9000", params={"strict": "true"})
    refused(write, 409, "EBUSY")
    quiet = host.ask("PUT", path, content=b"9000")
    assert quiet.status_code == 204
    assert quiet.headers["hugepool-outcome"].endswith("; reason=watermark")


def test_strict_says_507_where_a_restore_was_refused(host: HostApi) -> None:
    host.put(POOL, {"count": 4})
    host.put("faults/vmemmap-restore", {})
    answer = host.ask("PUT", "fs/proc/sys/vm/nr_hugepages", content=b"0", params={"strict": "true"})
    assert refused(answer, 507, "ENOMEM")["result"]["refused"] == 4


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_page(api: Api, reason: Reason) -> None:
    text = api.ask("GET", f"/problems/{reason}", headers=TEXT)
    assert text.text == f"{reason}: {reason.meaning}\n"
    page = api.ask("GET", f"/problems/{reason}", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert str(reason) in page.text


def test_an_unknown_reason_has_no_page(api: Api) -> None:
    refused(api.ask("GET", "/problems/none"), 404, "ENOENT")


def test_steps_of_remedies_are_words_of_scenarios(host: HostApi) -> None:
    host.put(POOL, {"count": 9000})
    short = host.put(POOL, {"count": 10_000}).json()["shortfall"]
    for remedy in short["remedies"]:
        assert all(set(step) <= set(STEPS) for step in remedy["steps"])
