"""What a replay makes of steps about single pages: room, pipes and their objects, locked memory."""

from pathlib import Path
from typing import Any

from hugepool.replay.run import Report, replay_trace
from hugepool.replay.trace import Step, Trace, load

TRACES = Path(__file__).parents[1] / "data" / "traces"
START: dict[str, Any] = {"do": "start", "task": 0}
ENOUGH = {"node": None, "at_most": 100, "allocatable_for_zone_index": 2}


def recording(name: str, *ops: dict[str, Any]) -> Trace:
    """A recording whose steps are others; ``result`` and ``errno`` of an op are what the guest is said to answer."""
    trace = load(TRACES / f"{name}.json.gz")
    trace.steps = [
        Step(at, op, op.pop("result", 0), op.pop("errno", None), "", op.pop("after", None))
        for at, op in enumerate({**op} for op in ops)
    ]
    return trace


def off(report: Report) -> list[tuple[int, str, Any, Any]]:
    return [(row.step, row.counter, row.kernel, row.model) for row in report.rows if row.verdict == "off"]


def test_a_process_takes_no_more_than_it_has_room_for() -> None:
    for kind in ("anon", "kernel"):
        grow = {"do": f"{kind}-grow", "task": 0, "until": ENOUGH, "pages": 2560, "result": 2560}
        more = {"do": f"{kind}-grow", "task": 0, "pages": 10, "result": 0}
        room = {"do": f"{kind}-map", "task": 0, "mib": 10}
        report = replay_trace(recording("i_boot_none-5.14-HVOon", START, room, grow, more))
        assert off(report) == []
        rows = {row.step: row.model for row in report.rows if row.counter == "pages taken"}
        assert rows == {2: 2560}


def test_room_that_is_given_back_can_be_taken_again() -> None:
    grow = {"do": "anon-grow", "task": 0, "pages": 2560, "result": 2560}
    shrink = {"do": "anon-shrink", "task": 0, "pages": 500, "result": 500}
    ops = (
        START,
        {"do": "anon-map", "task": 0, "mib": 10},
        grow,
        shrink,
        {**grow, "pages": 900, "result": 500},
    )
    rows = replay_trace(recording("i_boot_none-5.14-HVOon", *ops)).rows
    assert [row.model for row in rows if row.counter == "pages taken"] == [2560, 500]


def test_locked_memory_is_given_back_since_5_18_only() -> None:
    ops = (START, {"do": "anon-map", "task": 0, "mib": 10, "mlock": True},
           {"do": "anon-grow", "task": 0, "pages": 1000, "result": 1000},
           {"do": "anon-shrink", "task": 0, "pages": 400, "result": -1, "errno": "EINVAL"})  # fmt: skip
    assert off(replay_trace(recording("i_boot_none-5.14-HVOon", *ops))) == []
    assert off(replay_trace(recording("i_boot_none-6.1-HVOon", *ops))) == [(3, "errno", "EINVAL", None)]


def test_kernel_objects_of_pipes_are_an_input_and_a_thinned_pipe_keeps_a_page() -> None:
    trace = recording(
        "i_boot_none-6.1-HVOon",
        {"do": "wait", "ms": 1},
        START,
        {"do": "kernel-map", "task": 0, "mib": 100},
        {"do": "kernel-grow", "task": 0, "pages": 25600, "result": 25600},
        {"do": "kernel-thin", "task": 0, "keep_of_256": 1, "result": 25500},
    )
    before = trace.boot
    assert before is not None

    def later(free: int, slab: int) -> dict[str, Any]:
        meminfo = {**before["meminfo_kb"], "Slab": before["meminfo_kb"]["Slab"] + 4 * slab}
        zones = {name: dict(zone) for name, zone in before["zones"].items()}
        lists = {name: list(orders) for name, orders in before["buddyinfo"].items()}
        zone = max(zones, key=lambda name: zones[name]["free"])
        zones[zone]["free"] -= free
        lists[zone][0] -= free
        total = before["free_plus_pcp_pages"] - free
        return {
            **before,
            "meminfo_kb": meminfo,
            "zones": zones,
            "buddyinfo": lists,
            "free_plus_pcp_pages": total,
        }

    trace.steps[0].after = before
    trace.steps[3].after = later(600 + 25600 + 500, 500)
    trace.steps[4].after = later(600 + 25600 + 500 - 25400, 500)  # 100 pipes keep two pages each
    report = replay_trace(trace)
    assert report.inputs["kernel objects of pipes"] == 1
    assert [row for row in off(report) if row[0] > 1] == []
    changes = [row.model for row in report.rows if row.counter == "free_plus_pcp_pages change"]
    assert 25400 <= changes[2] <= 25400 + 9  # the page tables of the process are thinned, too


def test_switches_of_a_process_for_faults_are_the_guests() -> None:
    write = {"do": "write", "path": "/proc/26/make-it-fail", "data": "1", "result": 1}
    report = replay_trace(recording("i_boot_none-5.14-HVOon", write))
    assert (dict(report.not_modelled), off(report)) == ({}, [])


def test_a_pin_is_of_what_the_process_touched() -> None:
    ops = (START, {"do": "anon-map", "task": 0, "mib": 10}, {"do": "anon-grow", "task": 0, "pages": 900, "result": 900},
           {"do": "anon-pin", "task": 0, "pages": 300, "result": 300})  # fmt: skip
    report = replay_trace(recording("i_boot_none-6.1-HVOon", *ops))
    assert (dict(report.not_modelled), off(report)) == ({}, [])
