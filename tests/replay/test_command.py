"""``hugepool replay`` on the command line: the table, and the exit status."""

import gzip
import json
from pathlib import Path

from typer.testing import CliRunner

from hugepool.cli import app

TRACES = Path(__file__).parents[1] / "data" / "traces"


def test_the_table_names_what_was_compared_and_the_status_is_zero() -> None:
    result = CliRunner().invoke(app, ["replay", str(TRACES / "a_grow_shrink-5.14-HVOon.json.gz")])
    assert result.exit_code == 0, result.output
    assert "a_grow_shrink-5.14-HVOon" in result.output
    assert "not modelled" in result.output


def test_steps_without_a_rule_are_named_and_what_is_off_fails(tmp_path: Path) -> None:
    recording = json.loads(gzip.decompress((TRACES / "a_grow_shrink-5.14-HVOoff.json.gz").read_bytes()))
    first, last = [step for step in recording["steps"] if step.get("after")][:2]
    first["op"]["do"] = "knit"
    last["after"]["hugepages"]["2048kB"]["nr_hugepages"] += 1
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(recording))
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert "1 steps not modelled: knit" in result.output
    assert "2048kB/nr_hugepages" in result.output
    assert result.exit_code == 1


def test_a_file_that_is_no_recording_ends_with_two(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("no")
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert result.exit_code == 2
    assert "not a readable recording" in " ".join(result.output.split())
