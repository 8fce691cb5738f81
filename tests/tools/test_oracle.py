"""The parts of the oracle that need no guest: scenarios, steps, machines, snapshots, the comparison."""

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from oracle import diff, scenario, snapshot
from oracle.command import machine, main, parser
from oracle.kernels import OracleError, cpio, image
from oracle.kinds.files import squeezed
from oracle.machine import Machine, gib
from oracle.steps import KINDS, checked, long_path
from oracle.walk import SHAPES, WEIGHTS, Walk, shape

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "tools" / "kernel-oracle" / "examples").glob("*.yaml"))
TRACES = ROOT / "tests" / "data" / "traces"
OUR_KINDS = (
    "a_grow_shrink",
    "e_surplus",
    "f_reserve",
    "c_numa_even",
    "g_offline_free",
    "d_squeeze",
    "h_gigantic",
)
RECORDED = [path for name in OUR_KINDS for path in sorted(TRACES.glob(f"{name}-*"))]


def recording(path: Path) -> dict[str, Any]:
    """A recording as it is stored."""
    data: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return data


def written(folder: Path, text: str, name: str = "scenario.yaml") -> Path:
    """A file with that text."""
    (folder / name).write_text(text)
    return folder / name


# -- scenarios ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_scenario_for_a_machine(path: Path) -> None:
    found = scenario.load(path)
    assert found["steps"]
    assert found["name"] == path.stem
    given = parser().parse_args(["record", str(path), "--kernel", "6.12", "-o", "x.json"])
    assert machine(given, found).memory_option


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name[:-8])
def test_a_recording_is_a_scenario_of_the_same_machine_and_steps(path: Path) -> None:
    recorded, found = recording(path), scenario.load(path)
    given = parser().parse_args(["record", str(path), "--kernel", "6.1", "-o", "x.json"])
    again = machine(given, found)
    assert again.memory_option == recorded["memory"]
    assert again.devices == recorded["machine"]
    assert set(recorded["cmdline"].split()) <= {*again.whole_cmdline.split(), "hugetlb_free_vmemmap=off"}
    rows = [row for row in recorded["steps"] if row["op"]["do"] != "setup" and row.get("label") != "idle"]
    assert [step["do"] for step in found["steps"]] == [row["op"]["do"] for row in rows]
    assert [step["after"] != "none" for step in found["steps"]] == ["after" in row for row in rows]


def test_a_plugged_dimm_is_recorded_as_a_wait_and_asked_again_as_a_plug(tmp_path: Path) -> None:
    waits = [{"plug": 0}, {"unplug": 0, "gone": True}]
    steps = [{"op": {"do": "wait", "ms": 5000, "outside": one}, "result": 0, "errno": None} for one in waits]
    base = recording(TRACES / "a_grow_shrink-6.1-HVOon.json.gz")
    path = written(tmp_path, json.dumps(base | {"steps": steps}), "dimm.json")
    asked = [{"do": "plug", "dimm": 0, "after": "none"}, {"do": "unplug", "dimm": 0, "after": "none"}]
    assert scenario.load(path)["steps"] == asked


MISTAKES = {
    "[1, 2]": "a scenario is a mapping with a list of steps",
    "steps: 7": "a scenario is a mapping with a list of steps",
    "{steps: [], memmory: 4G}": "unknown memmory",
    "steps: [wait]": "a step is a mapping such as",
    "steps: [{do: dance}]": "unknown kind of step 'dance'",
    "steps: [{do: write, path: vm/nr_hugepages}]": "step write: data missing",
    "steps: [{do: wait, ms: 5, sec: 1}]": "step wait: unknown sec",
    "steps: [{do: exit, task: 16}]": "task is a number from 0 to 15, not 16",
    "steps: [{do: exit, task: one}]": "task is a number from 0 to 15, not 'one'",
    "steps: [{do: anon-grow, task: 0}]": "pages or until",
    "steps: [": "scenario.yaml",
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.items(), ids=MISTAKES.values())
def test_a_mistake_is_reported_before_anything_boots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    out = tmp_path / "out.json"
    path = written(tmp_path, text)
    assert main(["record", str(path), "--kernel", "/no/such/image", "-o", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_scenario_that_is_not_there_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OracleError, match="No such file"):
        scenario.load(tmp_path / "none.yaml")
    with pytest.raises(OracleError, match=r"x\.json: Expecting"):
        scenario.load(written(tmp_path, "{", "x.json"))


# -- steps -------------------------------------------------------------------------------------------------


def test_short_paths_stand_in_the_usual_folders() -> None:
    pools = "/sys/kernel/mm/hugepages/hugepages"
    assert long_path("2M/nr_hugepages") == f"{pools}-2048kB/nr_hugepages"
    assert long_path("1G/demote") == f"{pools}-1048576kB/demote"
    assert long_path("node1/2M/free_hugepages") == (
        "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages"
    )
    assert long_path("vm/nr_hugepages") == "/proc/sys/vm/nr_hugepages"
    assert long_path("memory32/state") == "/sys/devices/system/memory/memory32/state"
    assert long_path("memory*/state") == "/sys/devices/system/memory/memory*/state"
    assert long_path("/proc/meminfo") == "/proc/meminfo"


def test_a_step_gets_its_defaults_and_loses_what_a_kernel_answered() -> None:
    step = {"do": "huge-touch", "task": 1, "map": 2, "count": 3, "signal": "SIGBUS"}
    assert checked(step) == {"do": "huge-touch", "task": 1, "map": 2, "count": 3, "from": 0}
    assert checked({"do": "write", "path": "vm/nr_hugepages", "data": 7})["data"] == "7"


def test_every_kind_is_in_the_table_once_and_the_page_names_it() -> None:
    page = (ROOT / "docs" / "recordings.md").read_text()
    outside = {"plug", "unplug"}
    assert len(KINDS) > 30
    assert [name for name in KINDS.keys() - outside if f"`{name}`" not in page] == []


def test_what_a_squeeze_saw_is_read() -> None:
    text = (
        "zone 0 DMA32 free 100 min 20\nduring /proc/sys/vm/nr_hugepages 5\n"
        "zone_after 0 DMA32 free 90 min 20\nmin_free_write 5 0 restore 6\n"
    )
    assert squeezed(text) == {
        "zones_at_write": {"0/DMA32": {"free": 100, "min": 20}},
        "zones_after": {"0/DMA32": {"free": 90, "min": 20}},
        "during": {"/proc/sys/vm/nr_hugepages": 5},
        "min_free_write": {"ret": 5, "errno": 0, "restore": 6},
    }


# -- machines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "number"), [("4G", 4), ("3072M", 3), ("1g", 1)])
def test_a_size_is_whole_gib(size: str, number: int) -> None:
    assert gib(size) == number


@pytest.mark.parametrize("size", ["", "4", "G", "4T", "1500M", "-1G", "4.5G"])
def test_any_other_size_is_refused(size: str) -> None:
    with pytest.raises(OracleError, match="whole number of GiB"):
        gib(size)


def test_the_command_line_goes_before_the_scenario() -> None:
    found = {"memory": "2G", "numa": ["1G", "1G"], "cmdline": "movablecore=1G", "dimms": ["1G"]}
    base = ["record", "x.yaml", "--kernel", "6.1", "-o", "x.json"]

    def made(*more: str) -> Machine:
        options: argparse.Namespace = parser().parse_args([*base, *more])
        return machine(options, found)

    assert made() == Machine("6.1", True, "2G", ("1G", "1G"), ("1G",), "movablecore=1G")
    assert made("--numa", "3G,1G", "--dimms", "", "--cmdline", "", "--hvo", "off") == Machine(
        "6.1", False, "4G", ("3G", "1G")
    )
    assert made().memory_option == "2G,slots=1,maxmem=7G"
    with pytest.raises(OracleError, match="whole number of GiB"):
        made("--numa", "", "--memory", "lots")


def test_the_same_seed_picks_the_same_machine() -> None:
    base = Machine("6.12", True)
    seeds = [shape(base, "any", random.Random(seed)) for seed in range(40)]
    assert seeds == [shape(base, "any", random.Random(seed)) for seed in range(40)]
    assert {one.memory_option for one in seeds} >= {"2G", "4G", "8G"}
    assert all(shape(base, name, random.Random(1)).kernel == "6.12" for name in SHAPES)


def test_every_action_of_the_walk_has_a_method() -> None:
    assert [name for name in WEIGHTS if not callable(getattr(Walk, name, None))] == []


def test_a_kernel_that_is_not_set_up_is_named_with_what_to_do() -> None:
    with pytest.raises(
        OracleError, match=r"kernel 2\.4 is not set up .* make oracle ARGS='setup --kernel 2\.4'"
    ):
        image("2.4")
    with pytest.raises(OracleError, match="no kernel image at /no/such/image"):
        image("/no/such/image")


def test_the_initial_file_system_ends_as_cpio_wants_it() -> None:
    archive = cpio(b"\x7fELF")
    assert archive.count(b"070701") == 6
    assert b"init\0" in archive
    assert b"TRAILER!!!\0" in archive
    assert len(archive) % 4 == 0


# -- snapshots and the comparison --------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDED[:6], ids=lambda path: path.name[:-8])
def test_the_counters_of_a_boot_follow_from_its_files(path: Path) -> None:
    boot = recording(path)["boot"]
    found, known = snapshot.counters(boot["files"]), boot["counters"]
    for name in ("hugepages", "node_hugepages", "meminfo_kb", "buddyinfo", "memory_blocks", "pcp_pages"):
        assert found[name] == known[name], name
    assert found["free_plus_pcp_pages"] == known["free_plus_pcp_pages"]
    for zone, words in known["zones"].items():
        assert {word: found["zones"][zone][word] for word in words} == words
    assert {word: found["vmstat"][word] for word in found["vmstat"] if word in known["vmstat"]} == {
        word: value for word, value in known["vmstat"].items() if word in found["vmstat"]
    }


def test_files_that_could_not_be_read_are_left_out() -> None:
    assert snapshot.files([("/a", b"1\n"), ("/b", b"!errno=19")]) == {"/a": "1\n"}
    kept = snapshot.boot_files({"/proc/meminfo": "x", "/sys/devices/system/node/node0/vmstat": "y"}, "quiet")
    assert kept == {"/proc/meminfo": "x", "/proc/cmdline": "quiet\n"}


def test_cgroups_and_mounts_are_counted() -> None:
    boot = recording(RECORDED[0])["boot"]["files"]
    more = {
        "/sys/fs/cgroup/a/b/hugetlb.2MB.max": "20971520\n",
        "/sys/fs/cgroup/a/b/hugetlb.2MB.rsvd.current": "0\n",
        "/sys/fs/cgroup/a/b/hugetlb.2MB.events": "max 3\n",
        "statfs:/mnt/h": "bsize 2097152 blocks 10 bfree 4",
    }
    found = snapshot.counters(boot | more)
    assert found["cgroups"] == {"a/b": {"2MB": {"max": 20971520, "rsvd.current": 0, "events": 3}}}
    assert found["hugetlbfs"] == {"/mnt/h": {"bsize": 2097152, "blocks": 10, "bfree": 4}}
    assert "cgroups" not in snapshot.counters(boot)


def test_recordings_are_replayed_into_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = TRACES / "a_grow_shrink-5.14-HVOon.json.gz"
    assert main(["diff", str(good)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["recording", "steps", "compared", "exact"]
    assert row.split()[0] == "a_grow_shrink-5.14-HVOon"
    assert row.split()[5] == "0"
    wrong = recording(good)
    wrong["steps"][2]["after"]["hugepages"]["2048kB"]["nr_hugepages"] += 1
    broken = written(tmp_path, json.dumps(wrong), "broken.json")
    assert main(["diff", str(broken), str(written(tmp_path, "{}", "none.json"))]) == 1
    out = capsys.readouterr().out
    assert "step 2: 2048kB/nr_hugepages" in out
    assert "refused: " in out


def test_a_replay_that_does_not_end_is_a_row() -> None:
    outcome = diff.replay(RECORDED[0], show=1, seconds=0.01)
    assert outcome.cells[-1] == "TIMED OUT"
    assert outcome.detail
