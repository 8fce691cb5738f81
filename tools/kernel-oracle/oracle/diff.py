"""Replay recordings on the model, each in a process, and print one table; a replay that crashes is a row too."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oracle.kernels import say

ROW = re.compile(r"^(\S+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)\s*$", re.MULTILINE)
HEAD = ("recording", "steps", "compared", "exact", "within", "off", "not modelled", "first")
LONGEST = 120


@dataclass(frozen=True)
class Outcome:
    """Of one replay: the cells of its row, and the lines below the table."""

    cells: tuple[str, ...]
    detail: str


def diff(recordings: Sequence[Path], show: int, seconds: float) -> int:
    """Replay all of them; the exit status is 1 when something is off, refused or crashed."""
    rows: list[tuple[str, ...]] = [HEAD]
    details: list[str] = []
    for number, path in enumerate(recordings, 1):
        say(f"{number} of {len(recordings)}: {path}")
        outcome = replay(path, show, seconds)
        rows.append((path.name.removesuffix(".gz").removesuffix(".json"), *outcome.cells))
        if outcome.detail:
            details.append(f"\n{path.name}\n{outcome.detail}")
    sys.stdout.write("\n".join([*table(rows), *details]) + "\n")
    return 1 if details else 0


def replay(path: Path, show: int, seconds: float) -> Outcome:
    """Run ``hugepool replay`` on one recording."""
    command = [sys.executable, "-m", "hugepool", "replay", "--show", str(show), str(path)]
    env = os.environ | {"COLUMNS": "400"}  # a row in one line
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return _failed("TIMED OUT", f"no end after {seconds:.0f} s")
    found = ROW.search(done.stdout)
    if found is None:
        said = (done.stderr or done.stdout).strip()
        last = said.splitlines()[-1] if said else f"exit status {done.returncode}"
        return _failed(f"{'CRASH' if 'Traceback' in said else 'refused'}: {last[:LONGEST]}", said[-1500:])
    lines = [line for line in done.stdout[found.end() :].splitlines() if line.strip()]
    first = lines[0].strip()[:LONGEST] if lines else ""
    return Outcome((*found.groups()[1:], first), "\n".join(lines))


def _failed(word: str, detail: str) -> Outcome:
    return Outcome(("",) * (len(HEAD) - 2) + (word,), detail or word)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with names on the left, numbers on the right, and the last column as it is."""
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, last)), row[last]])
        for row in rows
    ]
