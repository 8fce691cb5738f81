"""Reading a host's files: ``render`` for a file, ``listdir`` for a folder."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from hugepool.fs.tree import File, Folder, Item, Link, children, walk
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder.

    Attributes:
        mode: permissions in octal digits.
    """

    name: str
    type: Literal["file", "directory", "symlink"]
    mode: str


@dataclass(frozen=True, slots=True)
class Symlink(Entry):
    """A link in a folder.

    Attributes:
        target: where it leads, relative to its folder, as readlink(2) answers.
    """

    target: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds."""

    entries: list[Symlink | Entry]


def is_directory(host: Host, path: str) -> bool:
    """Whether the path is a folder (or a link to one).  Raises NotFound when nothing is there."""
    item, _ = walk(host, path)
    return isinstance(item, Folder)


def render(host: Host, path: str) -> str:
    """The text of a file, as the kernel prints it.

    Raises:
        NotFound: no such file, or a folder.
        MMError: EACCES for a write-only file.
    """
    item, args = walk(host, path)
    if isinstance(item, Folder):
        raise NotFound(f"{path} is a directory", reason=Reason.IS_A_DIRECTORY)
    if item.show is None:
        raise MMError("EACCES", f"{path} is write-only", reason=Reason.WRITE_ONLY)
    return item.show(host, args)


def listdir(host: Host, path: str) -> list[Symlink | Entry]:
    """The entries of a folder by name, numbers in names in their order.

    Raises:
        NotFound: no such folder, or a file.
    """
    item, args = walk(host, path)
    if not isinstance(item, Folder):
        raise NotFound(f"{path} is not a directory", reason=Reason.NOT_A_DIRECTORY)
    found = [_entry(name, child) for name, child in children(host, item, args)]
    return sorted(found, key=_by_number)


def _entry(name: str, item: Item) -> Symlink | Entry:
    if isinstance(item, File):
        return Entry(name, "file", f"{item.mode:04o}")
    if isinstance(item, Link):
        kind = PurePosixPath(item.target).parent.name  # nodes and memory blocks lie side by side
        return Symlink(name, "symlink", "0777", f"../../{kind}/{name}")
    return Entry(name, "directory", "0755")


def _by_number(entry: Entry) -> tuple[str, int, str]:
    stem = entry.name.rstrip("0123456789")
    digits = entry.name[len(stem) :]
    return stem, int(digits) if digits else -1, entry.name
