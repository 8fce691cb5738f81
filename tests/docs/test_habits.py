"""Files about how to work here: they name what is there, and no address."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())


def test_hooks_are_local_and_run_what_make_lint_runs() -> None:
    assert [repo["repo"] for repo in HOOKS["repos"]] == ["local"]
    entries = [hook["entry"] for repo in HOOKS["repos"] for hook in repo["hooks"]]
    assert all(entry.startswith(".venv/bin/") for entry in entries)
    lint = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    wanted = [line.strip().replace("$(BIN)/", ".venv/bin/") for line in lint.splitlines()[1:]]
    assert len(wanted) >= 4
    assert [command for command in wanted if not any(_same(command, entry) for entry in entries)] == []


def _same(command: str, entry: str) -> bool:
    return command == entry.replace(" --force-exclude", "")


def test_no_file_about_the_project_names_an_address() -> None:
    names = ("pyproject.toml", ".pre-commit-config.yaml", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
    assert {
        name: found
        for name in names
        if (found := re.findall(r"(?<!postgresql\+)\b\w+://", (ROOT / name).read_text()))
    } == {}


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(headings[1:]) <= {version}
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
