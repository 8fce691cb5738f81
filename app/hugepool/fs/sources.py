"""Where a machine's files can be: an archive, the standard input, a folder, or this machine itself."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hugepool.fs.archive import Archive, Limits, read_archive
from hugepool.fs.collect import Collected, collect, root_of
from hugepool.mm.machine.errors import BadInput

STDIN = "-"
# Somebody's own file, read for as long as he waits: a sosreport has some GiB unpacked.
PATIENT = Limits(unpacked_bytes=1 << 40, members=1 << 24)
_ENDING = re.compile(r"\.(?:tar(?:\.(?:gz|xz|bz2|zst))?|tgz|txz|tbz2?|tzst)$")
_OTHERS = re.compile(r"[^a-z0-9]+")
_LONGEST = 63  # characters of a host's name

Progress = Callable[[int, int], None]  # bytes read, of how many; 0 where nobody knows


def read_source(where: str, progress: Progress | None = None) -> Collected:
    """The files of an archive, of the standard input (``-``), or of a folder with proc and sys in it.

    Raises:
        BadInput, TooLarge: no archive of a machine.  OSError: it cannot be read.
    """
    if where == STDIN:
        return _collected(read_archive(sys.stdin.buffer, PATIENT))
    path = Path(where)
    if path.is_dir():
        found = collect(root_of(path))
        if not found.files:
            raise BadInput("has no file of /proc or /sys that describes a machine", where=where)
        return found
    with path.open("rb") as stream:
        size = path.stat().st_size
        return _collected(_read(stream, size, progress))


def _read(stream: BinaryIO, size: int, progress: Progress | None) -> Archive:
    return read_archive(stream, PATIENT, (lambda done: progress(done, size)) if progress else None)


def _collected(archive: Archive) -> Collected:
    return Collected(archive.files, {}, archive.taken_s)


def name_for(where: str) -> str:
    """A host's name out of that of a file or folder: ``fleet/Prod_17.tar.gz`` is ``prod-17``."""
    name = _ENDING.sub("", Path(where).resolve().name.lower())
    return _OTHERS.sub("-", name).strip("-")[:_LONGEST].rstrip("-") or "imported"
