"""openapi.json in the hands of other tools: two linters, and clients that generators make of it.

``tools/openapi/install`` installs them; where it was not run these tests are skipped.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs.console import ROOT

TOOLS = ROOT / ".tools" / "openapi"
FILES = ROOT / "tools" / "openapi"
DOCUMENT = ROOT / "openapi" / "openapi.json"
OPERATIONS = {
    operation["operationId"]: operation["tags"][0]
    for methods in json.loads(DOCUMENT.read_text())["paths"].values()
    for operation in methods.values()
}
PATIENCE_SECONDS = 240


def run(tool: str, *arguments: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run a tool.  Skips the test on a machine that does not have it."""
    places = (TOOLS / "node_modules" / ".bin" / tool, TOOLS / ".venv" / "bin" / tool)
    found = next((place for place in places if place.exists()), None)
    if found is None:
        pytest.skip(f"{tool} is missing: tools/openapi/install, which needs npm and a package index")
    variables = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
    path = f"{found.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [found, *arguments],
        cwd=cwd,
        env=os.environ | variables | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_redocly_finds_no_error() -> None:
    done = run("redocly", "lint", DOCUMENT, f"--config={FILES / 'redocly.yaml'}", "--format=json")
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert [problem for problem in found["problems"] if problem["severity"] == "error"] == []
    assert done.returncode == 0


def test_spectral_finds_no_error() -> None:
    done = run(
        "spectral", "lint", DOCUMENT, f"--ruleset={FILES / 'spectral.yaml'}", "--format=json", "--quiet"
    )
    assert [problem for problem in json.loads(done.stdout) if problem["severity"] == 0] == []
    assert done.returncode == 0


def test_a_linter_would_find_an_example_that_does_not_fit(tmp_path: Path) -> None:
    schema = json.loads(DOCUMENT.read_text())
    small: dict[str, Any] = {**schema, "paths": {"/version": schema["paths"]["/version"]}}
    answer = small["paths"]["/version"]["get"]["responses"]["200"]["content"]["application/json"]
    answer["example"] = {"name": 7}
    (tmp_path / "wrong.json").write_text(json.dumps(small))
    done = run("spectral", "lint", tmp_path / "wrong.json", f"--ruleset={FILES / 'spectral.yaml'}", "--quiet")
    assert done.returncode == 1
    assert "oas3-valid-media-example" in done.stdout


def test_types_for_typescript_compile_and_know_every_operation(tmp_path: Path) -> None:
    assert run("openapi-typescript", DOCUMENT, "--output", tmp_path / "api.ts").returncode == 0
    known = "".join(f"  {name}: true,\n" for name in OPERATIONS)
    (tmp_path / "use.ts").write_text(
        'import type { components, operations } from "./api";\n'
        f"export const known: Record<keyof operations, true> = {{\n{known}}};\n"
        'export const count = (pool: components["schemas"]["HugePages"]): number => pool.nr_hugepages;\n'
    )
    compiled = run("tsc", "--noEmit", "--strict", "use.ts", cwd=tmp_path)
    assert (compiled.returncode, compiled.stdout) == (0, "")


def test_a_client_for_python_is_made_of_every_operation_and_compiles(tmp_path: Path) -> None:
    made = run(
        "openapi-python-client",
        "generate",
        f"--path={DOCUMENT}",
        f"--config={FILES / 'python-client.yaml'}",
        f"--output-path={tmp_path / 'generated'}",
        "--meta=none",
        "--fail-on-warning",
    )
    assert made.returncode == 0, made.stdout + made.stderr
    modules = {path.stem: path.parent.name for path in (tmp_path / "generated" / "api").rglob("*.py")}
    modules.pop("__init__")
    assert modules == {name: tag.replace(" ", "_").replace("-", "_") for name, tag in OPERATIONS.items()}
    imports = "\n".join(f"import generated.api.{tag}.{name}" for name, tag in modules.items())
    done = run("python", "-c", f"import generated.models\n{imports}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_locks_pin_hashes_and_name_no_registry() -> None:
    packages = json.loads((FILES / "package-lock.json").read_text())["packages"]
    wanted = json.loads((FILES / "package.json").read_text())["dependencies"]
    assert packages.pop("")["dependencies"] == wanted
    assert [
        name for name, package in packages.items() if not package["integrity"].startswith("sha512-")
    ] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert "://" not in (FILES / "requirements.lock").read_text()
