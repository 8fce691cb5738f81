"""The example project: its tests pass where the fixtures are installed, from a copy of its folder alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mirror.helpers import why_no_fuse

PROJECT = Path(__file__).parents[2] / "examples" / "harness"
PATIENCE_SECONDS = 120.0


def test_the_tests_of_the_example_pass_and_only_without_fuse_one_is_skipped(tmp_path: Path) -> None:
    folder = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-q", "-p", "no:schemathesis"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("7 passed" if why_no_fuse() is None else "6 passed, 1 skipped"), last
