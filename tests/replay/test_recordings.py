"""Every recording of a real kernel is replayed; what is modelled must not be off anywhere."""

import gzip
import json
from pathlib import Path

import pytest

from hugepool.mm.machine.errors import BadInput
from hugepool.replay.run import replay, replay_trace
from hugepool.replay.trace import load

TRACES = Path(__file__).parents[1] / "data" / "traces"
MODELLED = (
    *(f"{letter}_" for letter in "abcdefghijmnopqrsvx"),
    "u_cgroup_files",
    "u_cgroup_limits",
    "u_cgroup_sizes",
)
# Grown until memory ran out and compared within 1 % from then on, in almost every step.
EXHAUSTED = ("n_cma_nomem", "x_cma_runaway")
ALL = sorted(TRACES.glob("*.json.gz"))


@pytest.mark.parametrize("path", [p for p in ALL if p.name.startswith(MODELLED)], ids=lambda p: p.name[:-8])
def test_nothing_is_off(path: Path) -> None:
    report = replay(path)
    assert report.first_off is None
    if report.came_up:
        assert report.rows
        bar = 0.8 if path.name.startswith(EXHAUSTED) else 0.93
        assert report.count("exact") >= bar * len(report.rows)


@pytest.mark.parametrize(
    "path", [p for p in ALL if not p.name.startswith(MODELLED)], ids=lambda p: p.name[:-8]
)
def test_steps_without_a_rule_are_counted_never_skipped_in_silence(path: Path) -> None:
    report = replay(path)
    if report.came_up:
        assert report.steps == len(load(path).steps)
        assert report.not_modelled.total() > 0 or report.first_off is None


def test_a_wrong_model_is_found_out() -> None:
    trace = load(TRACES / "a_grow_shrink-5.14-HVOon.json.gz")
    trace.kernel = "6.1"  # frees 7 instead of 6 vmemmap pages a huge page
    report = replay_trace(trace)
    assert report.first_off is not None
    assert report.first_off.counter in ("free_plus_pcp_pages change", "MemTotal change (pages)")


def test_a_changed_recording_is_found_out() -> None:
    trace = load(TRACES / "f_reserve-6.1-HVOon.json.gz")
    step = next(s for s in trace.steps if s.do == "huge-map" and s.after)
    assert step.after is not None
    step.after["hugepages"]["2048kB"]["resv_hugepages"] += 1
    off = [r for r in replay_trace(trace).rows if r.verdict == "off"]
    assert [(r.step, r.counter) for r in off] == [(step.index, "2048kB/resv_hugepages")]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2}', gzip.compress(b"{}", mtime=0)[:-4]],
    ids=["empty", "brace", "list", "format 2", "cut off"],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="recording"):
        load(path)


def test_plain_json_is_read_as_well(tmp_path: Path) -> None:
    source = TRACES / "r_boot_on-5.14-HVOon.json.gz"
    path = tmp_path / "plain.json"
    path.write_text(json.dumps(json.loads(gzip.decompress(source.read_bytes()))))
    assert replay(path).first_off is None
