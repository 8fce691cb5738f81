"""What a service may say that a folder holds.

A service is not trusted with the machine of its clients: it may be another one than the user thinks.  A listing with
one entry that could lead out of the tree, or make more than a plain file, is refused as a whole.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from hugepool.client import BadAnswer, Json

ROOTS = ("proc", "sys")  # all that a host has below /
MAX_ENTRIES = 1 << 20  # of one folder; 64 TiB have 524,288 memory blocks
MAX_NAME_BYTES = 255
MAX_TARGET_BYTES = 4095
MODE = re.compile(r"0?[0-7]{3}")  # no setuid, setgid or sticky bit
ALLOWED_BITS = {"file": 0o666, "directory": 0o777, "symlink": 0o777}  # no file of a kernel is a program
BACK = re.compile(r"(?:\.\./)*")
SHOWN = 60  # letters of a bad name or target that the refusal repeats


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder.

    Attributes:
        type: ``file``, ``directory`` or ``symlink``.
        mode: permission bits.
        target: where a symlink leads, relative to its folder; never out of the tree.
    """

    type: str
    mode: int
    target: str | None = None


ROOT = Entry("directory", 0o755)


def read_listing(url: str, path: str, rows: list[Json]) -> dict[str, Entry]:
    """The entries of the folder ``path``, by name, as the service at ``url`` lists them.

    Raises:
        BadAnswer: the listing is not one of a folder of a kernel's files.
    """
    try:
        return _entries(path, rows)
    except _Refused as why:
        raise BadAnswer(url, f"its listing of {path} has {why}") from None


class _Refused(Exception):
    """Why a listing is refused."""


def _entries(path: str, rows: list[Json]) -> dict[str, Entry]:
    if len(rows) > MAX_ENTRIES:
        raise _Refused(f"more than {MAX_ENTRIES} entries")
    depth = sum(part != "" for part in path.split("/"))
    found: dict[str, Entry] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise _Refused("an entry that is no object")
        name = _name(row.get("name"), depth)
        if name in found:
            raise _Refused(f"the name {name!r} twice")
        found[name] = _entry(name, row, depth)
    return found


def _name(name: object, depth: int) -> str:
    if not isinstance(name, str) or not is_name(name):
        raise _Refused(f"the name {_shown(name)}")
    if depth == 0 and name not in ROOTS:
        raise _Refused(f"the name {name!r} next to {' and '.join(ROOTS)}")
    return name


def is_name(name: str) -> bool:
    """Whether it names an entry of the folder at hand and nothing else, and can be shown on a terminal."""
    plain = name.isprintable() and "/" not in name and name not in ("", ".", "..")
    return plain and len(os.fsencode(name)) <= MAX_NAME_BYTES


def _entry(name: str, row: Json, depth: int) -> Entry:
    type_, target = row.get("type"), row.get("target")
    if not isinstance(type_, str) or type_ not in ALLOWED_BITS:
        raise _Refused(f"{name!r} of the type {_shown(type_)}")
    mode = _mode(name, type_, row.get("mode"))
    if type_ != "symlink":
        return Entry(type_, mode)
    if not isinstance(target, str) or not stays_inside(target, depth):
        raise _Refused(f"the link {name!r} to {_shown(target)}")
    return Entry(type_, mode, target)


def _mode(name: str, type_: str, mode: object) -> int:
    if not isinstance(mode, str) or not MODE.fullmatch(mode) or int(mode, 8) & ~ALLOWED_BITS[type_]:
        raise _Refused(f"{name!r} with the mode {_shown(mode)}")
    return int(mode, 8)


def stays_inside(target: str, depth: int) -> bool:
    """Whether a link in a folder ``depth`` levels below the root leads into the tree, whatever other links do.

    ``..`` is at its beginning only, where the folders above are the real ones.  Behind that come names, and a link
    among them obeys the same rule.
    """
    match = BACK.match(target)
    steps_up = 0 if match is None else match.end() // len("../")
    names = target[3 * steps_up :].split("/")
    return steps_up <= depth and all(map(is_name, names)) and len(os.fsencode(target)) <= MAX_TARGET_BYTES


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def entry_at(path: str, entries: Callable[[str], dict[str, Entry]]) -> Entry:
    """What is at an absolute path, by what its folder holds.  Raises FileNotFoundError for nothing."""
    folder, _, name = path.rstrip("/").rpartition("/")
    if not name:
        return ROOT
    found = entries(folder or "/").get(name)
    if found is None:
        raise FileNotFoundError(path)
    return found
