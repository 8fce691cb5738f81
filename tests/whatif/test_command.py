"""``hugepool run``: reports, JSON, JUnit and exit statuses."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydantic_core import to_json
from typer.testing import CliRunner, Result

from hugepool.cli import app
from tests.whatif.ask import ask, question

GROW = {"resize": {"count": 8}, "expect": {"result.allocated": 8}}
WRONG = {"resize": {"count": 8}, "expect": {"result.allocated": 9}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the scenario goes."""
    return tmp_path / "scenario.yaml"


def hugepool(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["run", *map(str, arguments)], catch_exceptions=False)


def test_what_holds_is_reported_as_a_table_with_status_0(file: Path) -> None:
    file.write_text(json.dumps(question(GROW, name="Growing")))
    done = hugepool(file)
    assert done.exit_code == 0
    head, *_, row, last = done.output.splitlines()
    assert head == f"Growing  ({file})"
    assert row.split() == ["1", "resize", "count=8", "ok", "8", "8", "0", "0", row.split()[-1]]
    assert last == "ok: 1 steps, 0 refused"


def test_an_expectation_that_fails_is_reported_with_status_1(file: Path) -> None:
    file.write_text(json.dumps(question(WRONG)))
    done = hugepool(file)
    assert done.exit_code == 1
    assert "  step 1: result.allocated is 8, expected 9" in done.output.splitlines()
    assert done.output.splitlines()[-1] == "FAILED: 1 steps, 0 refused, 1 expectations failed"


def test_a_wrong_file_is_reported_with_status_2_and_no_file_is_run(file: Path, tmp_path: Path) -> None:
    file.write_text(json.dumps(question(GROW)))
    wrong, report = tmp_path / "wrong.yaml", tmp_path / "report.xml"
    wrong.write_text("host: lab\nsteps:\n  - launch: 7\n")
    done = hugepool(file, wrong, "--junit", report)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{wrong}:3: steps[0]: needs one word that says what to do: write, read, ")
    assert not report.exists()


def test_a_machine_that_cannot_be_is_reported_with_status_2(file: Path) -> None:
    file.write_text(json.dumps(question(GROW, host={"spec": {"nodes": [{"memory": "1M"}]}})))
    done = hugepool(file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{file}: EINVAL: nodes[0].memory: must be at least 128M")


def test_a_stored_host_needs_a_service(file: Path) -> None:
    file.write_text(json.dumps(question(GROW, host="lab")))
    done = hugepool(file, "--url", "http://127.0.0.1:9")
    assert done.exit_code == 2
    assert "no service at http://127.0.0.1:9" in done.stderr


def test_json_is_the_answers_bytes(file: Path) -> None:
    file.write_text(json.dumps(question(WRONG)))
    done = hugepool(file, "--json")
    assert (done.exit_code, done.stdout.encode()) == (1, to_json(ask(WRONG)))


def test_variants_are_a_row_each(file: Path) -> None:
    variants = {"grid": {"steps.0.resize.count": [8, 9]}, "columns": ["steps.0.result.requested"]}
    file.write_text(json.dumps(question(GROW, variants=variants)))
    done = hugepool(file)
    assert done.exit_code == 1
    _, head, *rows, failed, last = done.output.splitlines()
    assert head.split() == ["#", "steps.0.resize.count", "outcome", "0.result.requested"]
    assert [found.split() for found in rows] == [["1", "8", "ok", "8"], ["2", "9", "FAILED", "9"]]
    assert failed == "  variant 2: step 1: result.allocated is 9, expected 8"
    assert last == "FAILED: 2 variants, 1 of them not as expected"


def test_junit_has_a_case_for_each_step(file: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    file.write_text(json.dumps(question(GROW, {"label": "x", **WRONG}, name="a \u0001 & b")))
    assert hugepool(file, "--junit", report).exit_code == 1
    (suite,) = ET.parse(report).getroot()  # our own file
    assert suite.attrib == {
        "name": "a ? & b", "file": str(file), "tests": "2", "failures": "1", "errors": "0"
    }  # fmt: skip
    assert [case.get("name") for case in suite] == ["1 resize count=8", "2 x: resize count=8"]
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "result.allocated is 0, expected 9"


def test_a_machine_that_cannot_be_does_not_keep_the_others_from_being_reported(
    file: Path, tmp_path: Path
) -> None:
    report, other = tmp_path / "report.xml", tmp_path / "other.yaml"
    file.write_text(json.dumps(question(GROW, host={"spec": {"nodes": [{"memory": "1M"}]}})))
    other.write_text(json.dumps(question(GROW, name="Other")))
    done = hugepool(file, other, "--junit", report)
    assert done.exit_code == 2
    assert "ok: 1 steps" in done.stdout
    assert [suite.get("name") for suite in ET.parse(report).getroot()] == ["Other"]


def test_a_report_that_cannot_be_written_is_reported(file: Path) -> None:
    file.write_text(json.dumps(question(GROW)))
    done = hugepool(file, "--junit", "/nonexistent/report.xml")
    assert done.exit_code == 2
    assert done.stderr.strip() == "/nonexistent/report.xml: No such file or directory"


def test_brackets_are_no_markup(file: Path) -> None:
    pool = "/proc/sys/vm/nr_hugepages"
    file.write_text(
        json.dumps(question({"write": pool, "data": "[/b]", "may_fail": True}, name="[/b] [red]"))
    )
    done = hugepool(file)
    assert done.exit_code == 0
    assert "[/b] [red]" in done.stdout
    assert "<- [/b]" in done.stdout


def test_why_a_step_fell_short_is_printed_once_with_what_helps(file: Path) -> None:
    file.write_text(json.dumps(question({"offline": 99}, {"resize": {"count": 100000}})))
    done = hugepool(file)
    assert done.exit_code == 1
    lines = [line.strip() for line in done.stdout.replace("\n", " ").split("  ") if line.strip()]
    shown = "  ".join(lines)
    assert "step 1: No memory block 99 on this host." in shown
    assert shown.count("100000 huge pages of 2048kB were asked for, and there are ") == 1
    assert "what helps: Ask for the " in shown
    assert "step 2: falling short is neither expected nor allowed by may_fail" in shown


def test_other_formats_have_a_row_for_each_step_and_why_it_failed(file: Path) -> None:
    file.write_text(json.dumps(question(GROW, WRONG)))
    done = hugepool(file, "--format", "csv")
    assert done.exit_code == 1
    first, second = csv.DictReader(io.StringIO(done.stdout, newline=""))
    assert (first["outcome"], first["2048kB nr"], first["failed"]) == ("ok", "8", "")
    assert second["failed"] == "result.allocated is 0, expected 9"
    head, rule, *rows = hugepool(file, "--format", "md").stdout.splitlines()
    assert head.startswith("| step | what | outcome |")
    assert set(rule) == set("|-: ")
    assert len(rows) == 2
    assert hugepool(file, "--format", "json").stdout == hugepool(file, "--json").stdout


def test_a_column_is_called_as_the_file_says(file: Path) -> None:
    columns = [{"path": "steps.0.result.requested", "as": "asked"}, "steps.0.errno"]
    variants = {"grid": {"steps.0.resize.count": [8]}, "columns": columns}
    file.write_text(json.dumps(question({"resize": {"count": 8}}, variants=variants)))
    (row,) = csv.DictReader(io.StringIO(hugepool(file, "--format", "csv").stdout, newline=""))
    assert (row["asked"], row["steps.0.errno"]) == ("8", "")
    variants["columns"] = [*columns, {"path": "steps.0.reason", "as": "asked"}]
    file.write_text(json.dumps(question({"resize": {"count": 8}}, variants=variants)))
    done = hugepool(file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "names 'asked' a second time" in done.stderr
