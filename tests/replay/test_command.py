"""``hugepool replay`` on the command line: the table, and the exit status."""

from pathlib import Path

from typer.testing import CliRunner

from hugepool.cli import app

TRACES = Path(__file__).parents[1] / "data" / "traces"


def test_the_table_names_what_was_compared_and_the_status_is_zero() -> None:
    result = CliRunner().invoke(app, ["replay", str(TRACES / "a_grow_shrink-5.14-HVOon.json.gz")])
    assert result.exit_code == 0, result.output
    assert "a_grow_shrink-5.14-HVOon" in result.output
    assert "not modelled" in result.output


def test_steps_without_a_rule_are_named_and_what_is_off_fails() -> None:
    result = CliRunner().invoke(app, ["replay", str(TRACES / "s_cgroup-5.14-HVOon.json.gz")])
    assert "cgroup.procs" in result.output
    assert result.exit_code == 1


def test_a_file_that_is_no_recording_ends_with_two(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("no")
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert result.exit_code == 2
    assert "not a readable recording" in result.output
