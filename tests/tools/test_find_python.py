"""Which Python ``make`` builds the virtual environment with."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_OTHERS = "exec 2>/dev/null; exit 127"  # what a shim of pyenv does for a version that is not chosen
TOO_OLD = "exit 1"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A search path with bash and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "bash").symlink_to("/bin/bash")
    return folder


def add(programs: Path, name: str, body: str) -> None:
    """Put a program on the search path."""
    (programs / name).write_text(f"#!/bin/bash\n{body}\n")
    (programs / name).chmod(0o755)


def find(programs: Path, *named: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with that search path."""
    return subprocess.run(
        [ROOT / "tools" / "find-python", *named],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_first_that_works_is_taken(programs: Path) -> None:
    add(programs, "python3.13", NO_OTHERS)
    add(programs, "python3.12", TOO_OLD)
    add(programs, "python3", f'exec {sys.executable} "$@"')
    found = find(programs)
    assert (found.stdout, found.stderr, found.returncode) == (f"{sys.executable}\n", "", 0)
    add(programs, "python3.11", "echo /opt/eleven")
    assert find(programs).stdout == "/opt/eleven\n"


def test_a_python_that_is_named_is_taken_or_nothing(programs: Path) -> None:
    add(programs, "python3", "echo /usr/bin/python3")
    assert find(programs, sys.executable).stdout == f"{sys.executable}\n"
    add(programs, "mine", TOO_OLD)
    refused = find(programs, "mine")
    assert (refused.stdout, refused.stderr, refused.returncode) == ("", "", 1)


def test_without_any_the_status_is_one(programs: Path) -> None:
    refused = find(programs)
    assert (refused.stdout, refused.stderr, refused.returncode) == ("", "", 1)
    add(programs, "python3", TOO_OLD)
    assert find(programs).returncode == 1


def test_make_refuses_in_one_line_and_makes_nothing(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    refused = subprocess.run(
        ["make", "install", "PYTHON=nosuch"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [refused.stderr.rstrip("\n")]
    assert "nosuch is not a Python 3.11 or later with venv and ensurepip" in refused.stderr
    assert not (tmp_path / ".venv").exists()
