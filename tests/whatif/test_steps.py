"""Steps on a copy: every word does what the API does, refusals are reported and leave the copy as it was."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from hugepool.fs.render import render
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.state import Host
from hugepool.whatif.run import play, run
from hugepool.whatif.steps import STEPS
from tests.mm.hosts import GIB, machine
from tests.whatif.ask import Json, ask, question, rows, scenario, spec

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
FAIL: Json = {"fault": {"point": "vmemmap-restore"}}
BLOCK = 6
VM: list[Json] = [{"resize": {"count": 4}}, {"task": {"kind": "hugetlb", "count": 4}, "label": "vm"}]
# word -> (steps before, the step, what must be in its result)
DEVICE = {"virtio_mem": {"id": "vm0", "node": 0, "max": "512M", "requested": "256M"}}
NO_DEVICE_MEMORY = {"virtio_mem": {"id": "vm0", "node": 0, "max": "512M", "requested": 0}}
EVERY: dict[str, tuple[list[Json], Json, Json]] = {
    "write": ([], {"write": POOL, "data": "8\n"}, {"bytes": 2, "allocated": 8}),
    "read": ([{"resize": {"count": 3}}], {"read": POOL}, {"content": "3\n"}),
    "task": ([], {"task": {"kind": "anon", "memory": "1M"}}, {"pages": 256}),
    "touch": (
        [{"resize": {"count": 4}}, {"task": {"kind": "hugetlb", "count": 4}, "label": "vm"}],
        {"touch": {"pid": "vm", "count": 3}},
        {"touched": 3},
    ),
    "exit": ([{"task": {"kind": "anon", "memory": "1M"}}], {"exit": 1000}, {"freed_pages": 256}),
    "fork": (VM, {"fork": {"pid": "vm"}}, {"parent": 1000}),
    "write_pages": (VM, {"write_pages": {"pid": "vm", "from": 1, "count": 2}}, {"touched": 2}),
    "read_pages": (VM, {"read_pages": {"pid": "vm", "count": 4}}, {"touched": 4}),
    "unmap": ([*VM, {"touch": {"pid": "vm", "count": 2}}], {"unmap": {"pid": "vm"}}, {"freed": 2}),
    "cgroup": (
        [],
        {"cgroup": {"path": "a/b", "hugetlb": {"2048kB": {"max": 2}}}},
        {"path": "a/b", "tasks": []},
    ),
    "remove_cgroup": ([{"cgroup": {"path": "a"}}], {"remove_cgroup": "a"}, {"path": "a"}),
    "pin": (
        [{"task": {"kind": "anon", "memory": "1M"}}],
        {"pin": {"pid": 1000}},
        {"pid": 1000, "pages": 256},
    ),
    "run_on_cpu": (VM, {"run_on_cpu": {"pid": "vm", "cpu": 0}}, {"pid": 1000, "cpu": 0}),
    "move": ([*VM, {"cgroup": {"path": "a"}}], {"move": {"pid": "vm", "cgroup": "a"}}, {"cgroup": "a"}),
    "mount": ([], {"mount": {"path": "/mnt/h", "max": 3}}, {"path": "/mnt/h", "max": 3, "used": 0}),
    "umount": ([{"mount": {"path": "/mnt/h"}}], {"umount": "/mnt/h"}, {"files": 0}),
    "file": (
        [{"resize": {"count": 4}}],
        {"file": {"path": "/dev/hugepages/f", "op": "fallocate", "count": 3}},
        {"allocated": 3, "count": 3},
    ),
    "thin": (
        [{"task": {"kind": "anon", "memory": "1M"}, "label": "agent"}],
        {"thin": {"pid": "agent", "keep_of_256": 16}},
        {"pages": 240},
    ),
    "resize": ([], {"resize": {"size": "2048kB", "count": 5, "node": 0}}, {"allocated": 5}),
    "overcommit": ([], {"overcommit": {"count": 5}}, {"requested": 5}),
    "demote": ([{"resize": {"size": "1048576kB", "count": 1}}], {"demote": {"count": 1}}, {"demoted": 1}),
    "offline": ([], {"offline": BLOCK}, {"state": "offline"}),
    "online": ([{"offline": BLOCK}], {"online": BLOCK}, {"state": "online"}),
    "online_kernel": ([{"offline": BLOCK}], {"online_kernel": BLOCK}, {"state": "online"}),
    "online_movable": ([{"offline": BLOCK}], {"online_movable": BLOCK}, {"state": "online"}),
    "add_memory": ([], {"add_memory": {"node": 0, "memory": "128M"}}, {"nr_pages": 32768}),
    "remove_memory": ([{"offline": BLOCK}], {"remove_memory": BLOCK}, {"block": BLOCK}),
    "unplug": ([], {"unplug": {"block": BLOCK, "memory": "4M"}}, {"unplugged_pages": 1024}),
    "eject_memory": (
        [{"add_memory": {"node": 0, "memory": "256M"}}],
        {"eject_memory": {"block": 32, "blocks": 2}},
        {"blocks": [32, 33], "gone": True},
    ),
    "virtio_mem": ([], DEVICE, {"plugged_bytes": 256 << 20, "errno": None}),
    "request_virtio_mem": (
        [DEVICE],
        {"request_virtio_mem": {"id": "vm0", "requested": "64M"}},
        {"plugged_bytes": 64 << 20},
    ),
    "retry_virtio_mem": ([DEVICE], {"retry_virtio_mem": "vm0"}, {"steps": []}),
    "remove_virtio_mem": ([NO_DEVICE_MEMORY], {"remove_virtio_mem": "vm0"}, {"id": "vm0"}),
    "poison": (
        [{"resize": {"count": 4}}],
        {"poison": {"pfn": 200000, "mode": "hard"}},
        {"poisoned_pages": 1},
    ),
    "alloc_contig": ([], {"alloc_contig": {"nr_pages": 512}}, {"id": 1}),
    "free_contig": ([{"alloc_contig": {"nr_pages": 512}, "label": "r"}], {"free_contig": "r"}, {"id": 1}),
    "fault": ([], FAIL, {"armed": True}),
    "clear_fault": ([FAIL], {"clear_fault": "vmemmap-restore"}, {"point": "vmemmap-restore"}),
    "drain": ([], {"drain": None}, {"freed": 0}),
    "deferred_mode": ([], {"deferred_mode": "manual"}, {"mode": "manual"}),
}


def test_every_word_of_the_table_is_tried() -> None:
    assert EVERY.keys() == STEPS.keys()


@pytest.mark.parametrize("word", EVERY)
def test_a_step_does_what_its_word_says(word: str) -> None:
    before, step, wanted = EVERY[word]
    host = spec("8G", kernel="6.1") if word == "demote" else None
    last = ask(*before, step, host=host)["steps"][-1]
    assert last["errno"] is None, last["detail"]
    assert last["step"] == word
    assert last["result"].items() >= wanted.items()


def test_the_host_that_is_asked_about_stays_as_it_is() -> None:
    stored = machine(GIB)
    before = digest(stored)
    answer = ask({"resize": {"count": 64}}, FAIL, {"resize": {"count": 0}}, host="lab", hosts={"lab": stored})
    assert answer["steps"][2]["errno"] == "ENOMEM"
    assert digest(stored) == before


def test_a_host_that_is_not_there_is_refused_before_any_step() -> None:
    with pytest.raises(MMError, match="no host 'lab'"):
        ask({"drain": {}}, host="lab")


def test_a_refusal_that_keeps_nothing_leaves_the_copy_as_it_was_and_the_run_goes_on() -> None:
    before, host = play(scenario(question({"resize": {"count": 8}})), {})
    answer, after = play(
        scenario(question({"resize": {"count": 8}}, {"task": {"kind": "kernel", "memory": "64G"}})), {}
    )
    assert digest(after) == digest(host)
    assert (answer.ok, answer.refused) == (False, 1)
    refused = answer.steps[1]
    assert (refused.result, refused.errno, refused.reason) == (None, "ENOMEM", "oom")
    assert refused.facts["pages_needed"] == 64 << 18
    assert refused.counters == before.steps[0].counters


def test_a_refusal_that_keeps_something_carries_its_result() -> None:
    answer = ask({"resize": {"count": 16}}, FAIL, {"resize": {"count": 0}}, {"resize": {"count": 0}})
    assert rows(answer)[2:] == [("ENOMEM", 16, 16, 0, 16, 0), (None, 16, 16, 0, 16, 0)]
    assert answer["steps"][2]["result"]["refused"] == 16
    assert answer["steps"][3]["result"]["shortfall"]["reason"] == "surplus-not-retried"


def test_a_write_succeeds_as_the_kernels_does_where_a_resize_is_refused() -> None:
    answer = ask({"resize": {"count": 16}}, FAIL, {"write": POOL, "data": 0})
    last = answer["steps"][2]
    assert (last["errno"], last["result"]["bytes"], last["result"]["refused"]) == (None, 1, 16)


@pytest.mark.parametrize(
    ("step", "errno"),
    [
        ({"write": POOL, "data": "many"}, "EINVAL"),
        ({"write": "/proc/meminfo", "data": "1"}, "EACCES"),
        ({"write": "/proc/nosuch", "data": "1"}, "ENOENT"),
        ({"read": "/nowhere"}, "ENOENT"),
        ({"offline": 4711}, "ENOENT"),
        ({"exit": 1}, "ENOENT"),
        ({"add_memory": {"node": 9, "memory": "128M"}}, "EINVAL"),
    ],
)
def test_what_the_host_does_not_have_is_a_refused_step(step: Json, errno: str) -> None:
    answer = ask(step, {"read": POOL})
    assert [found["errno"] for found in answer["steps"]] == [errno, None]


def test_a_folder_is_read_as_its_entries() -> None:
    result = ask({"read": "/sys/kernel/mm/hugepages/"})["steps"][0]["result"]
    assert [entry["name"] for entry in result["entries"]] == ["hugepages-1048576kB", "hugepages-2048kB"]


def _deferred(mode: str) -> list[Json]:
    return [
        {"deferred_mode": mode},
        {"resize": {"count": 4}},
        {"task": {"kind": "hugetlb", "count": 4, "touch": 4}, "label": "vm"},
        {"resize": {"count": 0}},
        {"exit": "vm"},
    ]


def test_deferred_frees_are_drained_after_each_step_where_the_worker_is_on_its_own() -> None:
    last = ask(*_deferred("auto"))["steps"][-1]
    assert last["result"]["queued"] == 4
    assert last["drained"]["freed"] == 4
    assert last["counters"]["deferred_frees"] == 0


def test_deferred_frees_wait_for_a_drain_in_manual_mode() -> None:
    *_, exited, drain = ask(*_deferred("manual"), {"drain": {}})["steps"]
    assert (exited["drained"], exited["counters"]["deferred_frees"]) == (None, 4)
    assert (drain["result"]["freed"], drain["counters"]["deferred_frees"]) == (4, 0)


def test_a_label_of_a_refused_step_makes_the_steps_that_need_it_refused_too() -> None:
    answer = ask({"task": {"kind": "anon", "memory": "64G"}, "label": "vm"}, {"exit": "vm"})
    assert answer["steps"][1]["errno"] == "ENOENT"
    assert "'vm' was refused" in answer["steps"][1]["detail"]


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([{"exit": "vm"}], "steps[0].exit"),
        ([{"drain": {}, "label": "vm"}, {"exit": "vm"}], "steps[1].exit"),
        ([{"drain": {}, "label": "a"}, {"drain": {}, "label": "a"}], "steps[1].label"),
        ([{"add_memory": {"node": 0, "memory": 5}}], "steps[0].add_memory.memory"),
    ],
)
def test_what_is_wrong_between_steps_is_found_before_anything_runs(steps: list[Json], where: str) -> None:
    with pytest.raises(BadInput) as caught:
        scenario(question(*steps))
    assert caught.value.where == where


def test_the_console_lines_of_a_step_are_reported_with_it() -> None:
    answer = ask({"task": {"kind": "hugetlb", "count": 1}}, {"resize": {"count": 100000}})
    assert all(isinstance(line, str) for step in answer["steps"] for line in step["console"])
    assert answer["steps"][1]["result"]["shortfall"] is not None


def test_the_same_question_has_the_same_answer_byte_for_byte() -> None:
    document = question(
        {"fault": {"point": "vmemmap-restore", "probability": 50}},
        {"resize": {"count": 64}},
        {"resize": {"count": 0}},
    )
    first, second = (json.dumps(asdict(run(scenario(document), {}))) for _ in range(2))
    assert first == second


def test_progress_is_reported_step_by_step() -> None:
    progress: list[Any] = []
    run(scenario(question({"drain": {}}, {"drain": {}})), {}, lambda done, of: progress.append((done, of)))
    assert progress == [(1, 2), (2, 2)]


def test_a_question_about_files_is_one_about_the_machine_they_are_of(files: dict[str, str]) -> None:
    answer = ask({"read": "/proc/meminfo"}, host={"files": files, "kernel": "5.14"})
    assert answer["steps"][0]["result"]["content"] == files["/proc/meminfo"]


@pytest.fixture
def files() -> dict[str, str]:
    """The files of a small machine."""
    host: Host = machine(GIB)
    return {f"/proc/{name}": render(host, f"/proc/{name}") for name in ("meminfo", "zoneinfo", "buddyinfo")}
