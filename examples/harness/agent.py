"""A small agent: brings the pool of 2 MiB pages to a size, and tells what came of it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"


class Files(Protocol):
    """What the agent needs of a machine."""

    def read(self, path: str) -> str: ...

    def write(self, path: str, data: str) -> object: ...


class ThisMachine:
    """The machine that the agent runs on."""

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def write(self, path: str, data: str) -> object:
        return Path(path).write_text(data)


@dataclass(frozen=True)
class Outcome:
    """What was asked for, and what there is now; a write that falls short is a success for the kernel."""

    wanted: int
    pages: int
    surplus: int


def resize(files: Files, wanted: int) -> Outcome:
    """Bring the pool to a size.

    Pages that a shrink could not free stay as surplus, and the kernel does not try again.  Where there are some, the
    target is raised to what there is, which makes them ordinary pages, and the shrink is tried once more.
    """
    outcome = _write(files, wanted)
    if outcome.surplus and outcome.pages > wanted:
        _write(files, outcome.pages)
        outcome = _write(files, wanted)
    return outcome


def _write(files: Files, wanted: int) -> Outcome:
    files.write(f"{POOL}/nr_hugepages", f"{wanted}\n")
    pages, surplus = (int(files.read(f"{POOL}/{name}")) for name in ("nr_hugepages", "surplus_hugepages"))
    return Outcome(wanted, pages, surplus)


if __name__ == "__main__":
    found = resize(ThisMachine(), int(sys.argv[1]))
    print(f"{found.pages} of {found.wanted} pages, {found.surplus} surplus")
    sys.exit(found.pages != found.wanted)
