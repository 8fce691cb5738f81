"""Environments as pip would make them, from what is installed here: no network, no index.

A wheel is built from the checkout and installed into a new virtual environment.  Its dependencies are links to the
distributions of this interpreter: exactly those that the wheel's metadata asks for, and theirs.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 120
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def build(source: Path, target: str, folder: Path) -> Path:
    """The ``wheel`` or ``sdist`` of a source tree."""
    run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)], source)
    (built,) = folder.iterdir()
    return built


def run(
    command: list[str], folder: Path, settings: dict[str, str] | None = None, *, status: int = 0
) -> "subprocess.CompletedProcess[str]":
    """Run a program that sees nothing of this interpreter's import path; it has to end with ``status``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HUGEPOOL_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | (settings or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


class Environment:
    """A virtual environment that holds the wheel with some of its extras, and further distributions."""

    def __init__(
        self, folder: Path, wheel: Path, extras: Iterable[str] = (), others: Iterable[str] = ()
    ) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        self.python = str(self.bin / "python")
        self.site = folder / "lib" / VERSION / "site-packages"
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--no-deps", "--no-index"]
        run([*pip, "--quiet", str(wheel)], folder)
        (info,) = self.site.glob("*.dist-info")
        for name in _closure([_Wanted(Distribution.at(info), frozenset(extras)), *map(_wanted, others)]):
            self._link(distribution(name))

    def _link(self, found: Distribution) -> None:
        home = Path(sysconfig.get_path("purelib"))
        for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
            if not (self.site / top).exists():
                (self.site / top).symlink_to(home / top)

    def add_script(self, name: str, call: str) -> None:
        """A command as pip installs it: ``call`` is ``module:function``."""
        module, _, function = call.partition(":")
        script = self.bin / name
        script.write_text(
            f"#!{self.python}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        )
        script.chmod(0o755)


class _Wanted:
    """A distribution and the extras that are asked of it."""

    def __init__(self, found: Distribution, extras: frozenset[str]) -> None:
        self.found, self.extras = found, extras

    def needs(self) -> Iterator[Requirement]:
        for line in self.found.requires or ():
            need = Requirement(line)
            chosen = self.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in chosen):
                yield need


def _wanted(name: str, extras: Iterable[str] = ()) -> _Wanted:
    return _Wanted(distribution(name), frozenset(extras))


def _closure(wanted: list[_Wanted]) -> set[str]:
    """Names of everything that the wanted distributions need, and of those given by name."""
    found: set[str] = set()
    asked: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        one = wanted.pop()
        name = one.found.metadata["Name"].lower()
        if (name, one.extras) not in asked:
            asked.add((name, one.extras))
            found.add(name)
            wanted += [_wanted(need.name, need.extras) for need in one.needs()]
    return found - {"hugepool"}
