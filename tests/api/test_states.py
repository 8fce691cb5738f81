"""Hosts in a state: made by name, as the steps say, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from hugepool.forms.bodies import StateName
from hugepool.whatif.states import FOLDER
from tests.api.conftest import NR, Api, HostApi, refused

Shown = dict[str, Any]


def offline_is_refused(host: HostApi) -> None:
    before = host.counters()["nr_hugepages"]
    body = refused(host.put("memory-blocks/40/state", {"state": "offline"}), 507, "ENOMEM")
    assert body["reason"] == "vmemmap-restore"
    assert host.get("memory-blocks/40")["state"] == "online"
    assert 0 < host.counters()["nr_hugepages"] < before


def no_page_can_be_formed(host: HostApi) -> None:
    assert host.get()["memory"]["free_bytes"] > 3 << 30
    assert host.put(NR, {"count": 1000}).json()["allocated"] < 100


def next_process_starves(host: HostApi) -> None:
    refused(host.post("tasks", {"kind": "anon", "memory": "256M"}), 507, "ENOMEM")
    assert host.counters()["nr_hugepages"] == 3900


def worker_has_work(host: HostApi) -> None:
    assert len(host.get("deferred-frees")["queued"]) == 5
    assert host.post("deferred-frees/drain").json()["freed"] == 5


def nodes_differ(host: HostApi) -> None:
    first, second = host.counters()["nodes"]
    assert first["nr_hugepages"] > 2 * second["nr_hugepages"] > 0


def cache_gives_way(host: HostApi) -> None:
    assert host.get()["memory"]["free_bytes"] < 1 << 30
    assert host.put(NR, {"count": 1500}).json()["allocated"] == 1500


def surplus_stays(host: HostApi) -> None:
    counters = host.counters()
    assert (counters["surplus_hugepages"], counters["free_hugepages"], counters["max_huge_pages"]) == (
        64,
        64,
        0,
    )
    assert host.get("faults")["items"][0]["armed"] is False


def size_has_wrapped(host: HostApi) -> None:
    assert host.ask("GET", "fs/proc/sys/vm/nr_hugepages").text == f"{2**64 - 64}\n"


SHOWN: dict[str, Callable[[HostApi], None]] = {
    "deferred-queue": worker_has_work,
    "fragmented": no_page_can_be_formed,
    "offline-refused": offline_is_refused,
    "page-cache-full": cache_gives_way,
    "starved": next_process_starves,
    "surplus-stuck": surplus_stays,
    "underflow": size_has_wrapped,
    "uneven-nodes": nodes_differ,
}


def test_every_state_has_a_file_a_name_and_a_test() -> None:
    names = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    assert names == sorted(get_args(StateName)) == sorted(SHOWN)


@pytest.mark.parametrize("state", SHOWN)
def test_a_host_in_a_state_is_sound_and_behaves_so(api: Api, state: str) -> None:
    name = f"in-{state}"
    answer = api.post("/v1/hosts", {"name": name, "state": state})
    assert answer.status_code == 201, answer.text
    host = HostApi(api, name)
    assert host.get("audit")["ok"]
    first = host.get("events")["items"][0]
    assert (first["type"], first["data"]["state"]) == ("HostBooted", state)
    SHOWN[state](host)
    assert host.get("audit")["ok"]


def test_the_steps_that_are_listed_lead_there(api: Api) -> None:
    listed = {row["name"]: row for row in api.get("/v1/states").json()["items"]}
    assert listed.keys() == SHOWN.keys()
    row = listed["uneven-nodes"]
    assert row["title"]
    assert row["description"]
    asked = api.post("/v1/what-if", {"host": {"spec": row["spec"]}, "steps": row["steps"]})
    assert asked.status_code == 200, asked.text
    answer = asked.json()
    assert answer["ok"]
    api.post("/v1/hosts", {"name": "as-listed", "state": "uneven-nodes"})
    shown = HostApi(api, "as-listed").counters()
    assert {key: answer["steps"][-1]["counters"]["2048kB"][key] for key in shown if key != "size"} == {
        key: value for key, value in shown.items() if key != "size"
    }


def test_a_state_is_reached_on_another_machine_as_well(api: Api) -> None:
    spec = {"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "1G", "cpus": 1}]}
    answer = api.post("/v1/hosts", {"name": "small-stuck", "state": "surplus-stuck", "spec": spec})
    assert answer.status_code == 201
    host = HostApi(api, "small-stuck")
    assert host.get()["kernel"] == "6.1"
    assert host.counters()["surplus_hugepages"] == 64


WRONG: dict[str, tuple[Shown, str]] = {
    "unknown": ({"state": "tired"}, "state"),
    "with files": ({"state": "starved", "files": {}}, "not"),
    "with a copy": ({"state": "starved", "fork_of": "full"}, "not"),
    "not reached": (
        {"state": "surplus-stuck", "spec": {"nodes": [{"memory": "1G", "cpus": 1}]}},
        "is not reached on this machine: step 1 (resize)",
    ),
}


@pytest.mark.parametrize(("body", "why"), WRONG.values(), ids=WRONG)
def test_a_state_that_cannot_be_makes_no_host(api: Api, body: Shown, why: str) -> None:
    found = refused(api.post("/v1/hosts", {"name": "never", **body}), 422, "EINVAL")
    assert why in str(found)
    assert api.get("/v1/hosts/never").status_code == 404


def test_a_dry_run_shows_the_state_and_keeps_nothing(api: Api) -> None:
    answer = api.post("/v1/hosts?dry_run=true", {"name": "never", "state": "uneven-nodes"})
    assert answer.status_code == 201
    assert api.get("/v1/hosts/never").status_code == 404


def test_files_of_states_are_part_of_the_package() -> None:
    assert FOLDER.parent == Path(__file__).parents[2] / "app" / "hugepool" / "whatif"
