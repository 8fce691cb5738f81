"""docs/fidelity.md: made by a tool, honest about failures, and not stale in form."""

import re
from pathlib import Path

import pytest

from hugepool.mm.machine.profile import PROFILES
from hugepool.replay import fidelity
from hugepool.replay.fidelity import KINDS, Measured, main, measure, render

TRACES = Path(__file__).parents[1] / "data" / "traces"
GOOD = "r_boot_on-5.14-HVOon.json.gz"
NUMBER = re.compile(r"\d+")


def tables(page: str) -> list[list[list[str]]]:
    """Cells of every table, the lines of dashes left out."""
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if not line.startswith("|"):
            found += [[]] if found[-1] else []
        elif not line.startswith("| ---"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [table for table in found if table]


def headings(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("## ")]


def test_the_page_in_the_repository_has_the_form_that_the_tool_writes() -> None:
    page = fidelity.PAGE.read_text()
    sample = render([Measured("a_x-5.14-HVOon", "5.14", 2, 1, 1)])
    assert headings(page) == headings(sample)
    assert tables(page)[0] == tables(sample)[0]  # the rules, as the comparison has them
    by_kernel, by_kind, *of_kernels = [table for table in tables(page) if "recordings" in table[0][1:2]]
    assert {tuple(table[0][1:]) for table in (by_kernel, by_kind, *of_kernels)} == {fidelity.COLUMNS}
    assert {row[0] for row in by_kernel[1:-1]} == set(PROFILES)
    assert {row[0] for table in (by_kind, *of_kernels) for row in table[1:-1]} <= set(KINDS.values())
    for table in (by_kernel, by_kind, *of_kernels):
        for column in (1, 2, 3, 5, 6, 7, 8):
            numbers = [int(row[column]) for row in table[1:]]
            assert sum(numbers[:-1]) == numbers[-1]
    assert by_kernel[-1] == by_kind[-1]
    compared, exact, within, off = (int(NUMBER.findall(by_kernel[-1][n])[0]) for n in (3, 4, 5, 6))
    assert compared == exact + within + off
    assert int(by_kernel[-1][1]) >= len(list(TRACES.glob("*.json.gz")))


def test_every_recording_of_the_repository_is_of_a_kind_that_has_a_name() -> None:
    assert {path.name[0] for path in TRACES.glob("*.json.gz")} <= KINDS.keys()


def test_a_recording_is_measured_and_the_page_written(tmp_path: Path) -> None:
    (tmp_path / GOOD).write_bytes((TRACES / GOOD).read_bytes())
    out = tmp_path / "page.md"
    assert main([str(tmp_path), "-o", str(out)]) == 0
    measured = measure(TRACES / GOOD)
    assert (measured.off, measured.no_rule, measured.crashed, measured.compared > 0) == (0, 0, "", True)
    assert tables(out.read_text())[1][1][:4] == ["5.14", "1", "1", str(measured.compared)]
    assert "None.\n" in out.read_text()


def test_what_is_off_or_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> None:
        raise KeyError("node")

    monkeypatch.setattr(fidelity, "replay", fail)
    crashed = measure(TRACES / GOOD)
    off = Measured("a_x-6.1-HVOon", "6.1", 10, 8, 1, 1, first_off="step 3, MemTotal: 5 / 6")
    page = render([crashed, off])
    assert "| r_boot_on-5.14-HVOon | 0 | 0 | KeyError: 'node' |" in page
    assert "| a_x-6.1-HVOon | 1 | 0 | step 3, MemTotal: 5 / 6 |" in page
    assert tables(page)[1][-1][1:] == ["2", "0", "10", "8 (80.00 %)", "1", "1", "0", "1"]


def test_a_folder_without_recordings_is_refused_and_nothing_written(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert main([str(tmp_path), "-o", str(out)]) == 2
    assert not out.exists()
