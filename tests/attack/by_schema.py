"""Schemathesis with all phases and all checks: what the document allows is what the service takes, and nothing else."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hugepool.client import Client, Refused, Unreachable
from tests.attack.report import Report, attack

HERE = Path(__file__).parent / "schema"
ROOT = Path(__file__).parents[2]
PHASES = "examples,coverage,fuzzing,stateful"
SHORT = 5  # examples; with fewer the phases that take longest are left out
START_SECONDS = 120
CASES = re.compile(r"(\d+) generated")
HOST = {"nodes": [{"memory": "1G"}, {"memory": "1G"}], "cmdline": "hugetlb_free_vmemmap=on"}


@contextmanager
def _service(folder: Path) -> Iterator[str]:
    """The address of an instrumented service with the host that the document's examples name."""
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.instrumented", str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        _create(url)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _create(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Client(url, token="") as client:
        while True:
            try:
                client.create_host("lab", HOST)
            except (Refused, Unreachable):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def run(examples: int, seed: int = 1) -> Report:
    """Generate so many requests for each operation and phase."""
    with attack("schema") as report, tempfile.TemporaryDirectory(prefix="hugepool-schema-") as place:
        with _service(Path(place)) as url:
            done = _schemathesis(url, Path(place), examples, seed)
        for number in CASES.findall(done.stdout):
            report.count("generated requests", int(number))
        report.count("phases", len(_phases(examples).split(",")))
        report.expect(done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:])
        log = (Path(place) / "service.log").read_text()
        report.expect("Traceback" not in log, f"the log: {log[-3000:]}")
    return report


def _phases(examples: int) -> str:
    return PHASES if examples >= SHORT else "examples,fuzzing"


def _schemathesis(url: str, folder: Path, examples: int, seed: int) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("schemathesis")
    options = [
        "--phases",
        _phases(examples),
        "--checks",
        "all",
        "--max-examples",
        str(examples),
        "--seed",
        str(seed),
    ]
    more = [
        "--continue-on-failure",
        "--request-timeout",
        "120",
        "--generation-database",
        "none",
        "--no-color",
    ]
    endless = ["--exclude-operation-id-regex", "stream_.*"]  # tested with real sockets
    return subprocess.run(
        [
            program,
            "--config-file",
            HERE / "schemathesis.toml",
            "run",
            f"{url}/openapi.json",
            *options,
            *more,
            *endless,
        ],
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "tests.attack.schema.hooks", "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.examples, options.seed)
