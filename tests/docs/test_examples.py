"""Every script of the cookbook prints what the file next to it says, and every scenario is as it expects."""

import subprocess
from pathlib import Path

import pytest

from hugepool.whatif.ask import ask
from hugepool.whatif.document import read_scenario
from tests.docs.console import ROOT, environment

SCRIPTS = sorted((ROOT / "examples" / "curl").glob("*.sh"))
SCENARIOS = sorted((ROOT / "examples" / "scenarios").glob("*.yaml"))
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


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_a_scenario_is_as_it_expects(file: Path) -> None:
    scenario = read_scenario(file)
    assert any(step.expect for step in scenario.scenario.steps)
    answer = ask(scenario, lambda *_: None)
    assert answer.ok, answer


def test_there_are_scenarios_and_the_page_lists_everything() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    assert SCENARIOS
    assert [file.name for file in SCENARIOS if f"(scenarios/{file.name})" not in listed] == []
    assert [file.name for file in SCRIPTS if f"(curl/{file.name})" not in listed] == []
