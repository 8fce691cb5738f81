"""A machine's files from a folder: the only part of ``fs`` that touches the operating system.

The folder is ``/``, or what somebody unpacked there: no link in it is followed, and nothing but plain files is read.
``collect.sh`` does the same where there is no Python.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from hugepool.fs import sosreport
from hugepool.fs.paths import MAX_FILE_BYTES, is_link, relevant

SCRIPT = files("hugepool") / "fs" / "collect.sh"
_FOLDERS = ("proc/sys/vm", "sys/kernel/mm/hugepages", "sys/devices/system/node", "sys/devices/system/memory")
_OF_PROC = ("meminfo", "zoneinfo", "buddyinfo", "pagetypeinfo", "vmstat", "cmdline", "version",
            "sys/kernel/osrelease", "sys/kernel/arch")  # fmt: skip
_CHUNK = 64 << 10  # a larger read of a file in /proc/sys is refused with ENOMEM
_DEPTH = 4  # folders below each of these: nodeN/hugepages/hugepages-SIZE
_WRITE_ONLY = "demote"
# Collected last and close together: they count the same pages, and the pages move.
_LAST = ("/proc/meminfo", "/proc/vmstat", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/pagetypeinfo")


@dataclass(slots=True)
class Collected:
    """What was read: path -> text; path -> why not; and when, in seconds since 1970, 0 when nobody knows."""

    files: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    taken_s: int = 0


def collect(root: Path = Path("/"), progress: Callable[[str], None] | None = None) -> Collected:
    """Read every file below ``root`` that describes a machine; ``progress`` hears each path.

    Files that cannot be read are listed, not fatal: pagetypeinfo, say, needs root.
    """
    found = Collected()
    paths = sorted(
        set(_candidates(root)), key=lambda path: (_LAST.index(path) if path in _LAST else -1, path)
    )
    for path in paths:
        if progress:
            progress(path)
        try:
            found.files[path] = "" if is_link(path) else _read(root / path[1:])
        except (OSError, UnicodeError) as error:
            found.unreadable[path] = str(error)
    found.files = sosreport.translated(found.files)
    return found


def root_of(folder: Path) -> Path:
    """The folder that holds ``proc``: this one, or the only one in it, as archives are unpacked."""
    if (folder / "proc").is_dir():
        return folder
    inner = [entry for entry in folder.iterdir() if (entry / "proc").is_dir() and not entry.is_symlink()]
    return inner[0] if len(inner) == 1 else folder


def _candidates(root: Path) -> Iterator[str]:
    for path in (*(f"/proc/{name}" for name in _OF_PROC), *sosreport.SOURCES):
        if (root / path[1:]).exists():
            yield path
    for folder in _FOLDERS:
        yield from (path for path in _walk(root / folder, f"/{folder}", _DEPTH) if relevant(path))


def _walk(folder: Path, shown: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = f"{shown}/{entry.name}"
        if is_link(path):
            yield path
        elif entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _walk(folder / entry.name, path, depth - 1)
        elif entry.is_file(follow_symlinks=False) and entry.name != _WRITE_ONLY:
            yield path


def _read(file: Path) -> str:
    content = bytearray()
    opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError("not a plain file")
        while part := os.read(opened, _CHUNK):
            content += part
            if len(content) > MAX_FILE_BYTES:
                raise OSError(f"above {MAX_FILE_BYTES} bytes")
    finally:
        os.close(opened)
    return content.decode()
