"""Every script of the cookbook, run against a real service, prints what the file beside it says."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.console import ROOT, environment

SCRIPTS = sorted((ROOT / "examples" / "curl").glob("*.sh"))
TIMEOUT_SECONDS = 60


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_prints_what_the_file_beside_it_says(script: Path, service_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", script],
        cwd=tmp_path,
        env=environment(service_url, tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == script.with_suffix(".out").read_text()


def test_there_are_scripts_and_every_output_belongs_to_one() -> None:
    assert SCRIPTS
    outputs = {path.stem for path in (ROOT / "examples" / "curl").glob("*.out")}
    assert outputs == {script.stem for script in SCRIPTS}
