"""This machine's files: the only part of ``fs`` that touches the operating system."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hugepool.fs.archive import make_archive
from hugepool.fs.paths import MAX_FILE_BYTES, is_link, relevant

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
    """What was read: path -> text; and path -> why not."""

    files: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


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
    return found


def _candidates(root: Path) -> Iterator[str]:
    for name in _OF_PROC:
        if (root / "proc" / name).exists():
            yield f"/proc/{name}"
    for folder in _FOLDERS:
        yield from (path for path in _walk(root / folder, f"/{folder}", _DEPTH) if relevant(path))


def _walk(folder: Path, shown: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = f"{shown}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _walk(folder / entry.name, path, depth - 1)
        elif is_link(path) or (entry.is_file(follow_symlinks=False) and entry.name != _WRITE_ONLY):
            yield path


def _read(file: Path) -> str:
    content = bytearray()
    with file.open("rb", buffering=0) as stream:
        while part := stream.read(_CHUNK):
            content += part
            if len(content) > MAX_FILE_BYTES:
                raise OSError(f"above {MAX_FILE_BYTES} bytes")
    return content.decode()


__all__ = ["Collected", "collect", "make_archive", "relevant"]
