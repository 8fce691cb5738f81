"""Console blocks of the documentation: read them, run them, write their outputs anew.

A fenced block of the language ``console`` holds commands behind ``$ `` (continued behind ``> ``), each followed
by what it prints.  A block of the language ``bash`` is set-up as one can paste it, and prints nothing.  All these
blocks of a file are one bash session, run from the root of the repository; other blocks are not run.  Two things
may differ from run to run and are put into one form on both sides before they are compared: the address of the
service, and times.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
README_URL = "http://127.0.0.1:8000"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
MARK = "\x1e"
TIMEOUT_SECONDS = 120


@dataclass(slots=True)
class Step:
    """A command, the line it stands in, and the lines that it prints."""

    line: int
    command: str
    output: list[str] = field(default_factory=list)


def read_steps(markdown: str) -> list[Step]:
    """All commands of a file, in order: those of console blocks, and each bash block as one."""
    found: list[Step] = []
    language = ""
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.startswith("```"):
            language = line[3:]
            if language == "bash":
                found.append(Step(number, ""))
        elif language == "bash":
            found[-1].command += f"{line}\n"
        elif language == "console":
            _add_line(found, number, line)
    return found


def _add_line(found: list[Step], number: int, line: str) -> None:
    if line.startswith("$ "):
        found.append(Step(number, line[2:]))
    elif _continues(line) and not found[-1].output:
        found[-1].command += f"\n{line[2:]}"
    else:
        found[-1].output.append(line)


def _continues(line: str) -> bool:
    return line == ">" or line.startswith(
        "> "
    )  # the first is an empty line: no line of a page ends with a blank


def play(steps: list[Step], url: str, scratch: Path) -> list[list[str]]:
    """What each command prints when all are run in one session against the service at ``url``."""
    parts = [f"printf '{MARK}'\n{step.command.replace(README_URL, url)}" for step in steps]
    done = subprocess.run(
        ["bash", "-c", "\n".join(["exec 2>&1", *parts])],
        cwd=ROOT,
        env=environment(url, scratch),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    before, *printed = done.stdout.split(MARK)
    assert not before, before
    assert len(printed) == len(steps), f"the session ended early: {done.stdout[-2000:]}"
    return [_tidy(text.replace(url, README_URL)) for text in printed]


def _tidy(text: str) -> list[str]:
    """Lines as they may stand in a file: no blanks at their ends, no empty lines around them."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n").splitlines()


def comparable(lines: list[str]) -> list[str]:
    """Lines with every time in one form."""
    return [TIME.sub("<time>", line) for line in lines]


def rewrite(path: Path, url: str, scratch: Path) -> None:
    """Run a file's commands and write their outputs into it."""
    markdown = path.read_text()
    steps = read_steps(markdown)
    outputs = {s.line: lines for s, lines in zip(steps, play(steps, url, scratch), strict=True)}
    kept: list[str] = []
    pending: list[str] = []
    inside = False
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.startswith(("```", "$ ")) and inside:
            kept += pending
            pending = []
        if line.startswith("```"):
            inside = line == "```console"
        if number in outputs:
            pending = outputs[number]
        if not inside or line.startswith(("```", "$ ")) or _continues(line):
            kept.append(line)
    path.write_text("\n".join(kept) + "\n")


def environment(url: str, scratch: Path) -> dict[str, str]:
    """What the commands see: this interpreter's ``python3`` and ``hugepool``, a scratch folder, a plain terminal."""
    sources = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return sources | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "HUGEPOOL_URL": url,
        "COLUMNS": "100",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},  # the code under test
    }
