"""A host's files as a plain tree in a folder, for programs that take another root than ``/``."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hugepool.mirror.view import Entry, Mirror

MARK = ".hugepool-export"
TRIES = 3


class CannotExport(Exception):
    """The folder is not one to write into, or the host does not keep still."""


def export(mirror: Mirror, folder: Path, progress: Callable[[str], None], *, force: bool = False) -> int:
    """Write every file, link and folder of a host, with its mode; all of one revision.

    Of an export that was there before nothing remains.  A file that can only be written is there, and empty.

    Args:
        folder: made when it is missing.
        progress: hears each path.
        force: write into a folder that holds something else; what has no counterpart in the host stays.

    Returns:
        The number of files.

    Raises:
        CannotExport: the folder holds something else, or ``proc`` or ``sys`` of a running system; or the host was
            changed during each of ``TRIES`` tries.
    """
    _prepare(folder, force=force)
    for _ in range(TRIES):
        before = mirror.client.host(mirror.host)["revision"]
        files = _copy(mirror, "/", folder, progress)
        if mirror.client.host(mirror.host)["revision"] == before:
            (folder / MARK).write_text(f"{mirror.host} at revision {before}\n")
            return files
    raise CannotExport(f"host {mirror.host!r} changed {TRIES} times while it was read")


def _prepare(folder: Path, *, force: bool) -> None:
    roots = [folder / name for name in ("proc", "sys")]
    if any(os.path.ismount(root) for root in roots):
        raise CannotExport(f"{folder} is the root of a running system")
    if folder.exists() and not folder.is_dir():
        raise CannotExport(f"{folder} is not a folder")
    ours = (folder / MARK).is_file()
    if folder.exists() and any(folder.iterdir()) and not (ours or force):
        raise CannotExport(f"{folder} is not empty, and no export made it; --force writes into it")
    folder.mkdir(parents=True, exist_ok=True)
    for root in roots:
        if ours and root.exists():
            shutil.rmtree(root)


def _copy(mirror: Mirror, path: str, target: Path, progress: Callable[[str], None]) -> int:
    """One folder and all below it; the number of files."""
    target.mkdir(exist_ok=True)
    files = 0
    for name, entry in mirror.entries(path).items():
        below = f"{path.rstrip('/')}/{name}"
        if entry.type == "directory":
            files += _copy(mirror, below, target / name, progress)
        else:
            progress(below)
            _put(mirror, below, target / name, entry)
            files += 1
    return files


def _put(mirror: Mirror, path: str, target: Path, entry: Entry) -> None:
    target.unlink(missing_ok=True)
    if entry.target is not None:
        target.symlink_to(entry.target)
        return
    target.write_bytes(mirror.read(path) if entry.mode & 0o444 else b"")
    target.chmod(entry.mode)
