"""A host's files as a plain tree in a folder, for programs that take another root than ``/``."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hugepool.mirror.beneath import OpenFolder, open_folder
from hugepool.mirror.listing import ROOTS, Entry
from hugepool.mirror.view import Mirror

MARK = ".hugepool-export"
TRIES = 3


class CannotExport(Exception):
    """The folder is not one to write into, the host does not keep still, or its files are too many."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one export writes at most.  A service that never comes to an end must not fill the disk.

    Attributes:
        files: files, links and folders; a host of 64 TiB has 4.3 million.
        content_bytes: in all files together.
        depth: folders within folders.
    """

    files: int = 6_000_000
    content_bytes: int = 2 << 30
    depth: int = 32


def export(
    mirror: Mirror,
    folder: Path,
    progress: Callable[[str], None],
    *,
    force: bool = False,
    bounds: Bounds | None = None,
) -> int:
    """Write every file, link and folder of a host, with its mode; all of one revision.

    Of an export that was there before nothing remains.  A file that can only be written is left out: it has no text.
    Nothing but ``proc``, ``sys`` and the mark in ``folder`` is written, whatever the service says.

    Args:
        folder: made when it is missing.
        progress: is called with each path.
        force: write into a folder that holds something else; what has no counterpart in the host stays.

    Returns:
        The number of files and links.

    Raises:
        CannotExport: the folder holds something else, or ``proc`` or ``sys`` of a running system; or the host was
            changed during each of ``TRIES`` tries, or is larger than ``bounds``.
        BadAnswer: the service lists what is no file of a kernel.
        OSError: the folder cannot be written, or a link lies in the way.
    """
    ours = _check(folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    with open_folder(folder) as top:
        for _ in range(TRIES):
            before = mirror.client.revision(mirror.host)
            if ours:
                _begin(top)
            copy = _Copy(mirror, progress, bounds or Bounds())
            copy.folder("/", top, 0)
            if mirror.client.revision(mirror.host) == before:
                _mark(top, f"{mirror.host} at revision {before}\n")
                return copy.files
    raise CannotExport(f"host {mirror.host!r} changed {TRIES} times while it was read")


def _check(folder: Path, *, force: bool) -> bool:
    """Whether what is in the folder, if anything, is of an export, and may be removed."""
    if any(os.path.ismount(folder / name) for name in ROOTS):
        raise CannotExport(f"{folder} is the root of a running system")
    if folder.exists() and not folder.is_dir():
        raise CannotExport(f"{folder} is not a folder")
    ours = not folder.exists() or not any(folder.iterdir()) or (folder / MARK).is_file()
    if not (ours or force):
        raise CannotExport(f"{folder} is not empty, and no export made it; --force writes into it")
    return ours


def _begin(top: OpenFolder) -> None:
    """Mark the folder before anything is in it: an export that is cut off may be made again."""
    _mark(top, "not finished\n")
    for name in ROOTS:
        top.remove_all(name)


def _mark(top: OpenFolder, text: str) -> None:
    top.write(MARK, text.encode(), 0o644)


class _Copy:
    """One pass over the tree of a host."""

    def __init__(self, mirror: Mirror, progress: Callable[[str], None], bounds: Bounds) -> None:
        self._mirror, self._progress, self._bounds = mirror, progress, bounds
        self.files = 0
        self._entries = 0
        self._content_bytes = 0

    def folder(self, path: str, target: OpenFolder, depth: int) -> None:
        """Write what a folder holds, and all below it."""
        for name, entry in self._mirror.entries(path).items():
            below = f"{path.rstrip('/')}/{name}"
            self._count(depth)
            if entry.type == "directory":
                with target.below(name) as inner:
                    self.folder(below, inner, depth + 1)
            elif entry.target is not None or entry.mode & 0o444:
                self._progress(below)
                self._put(below, name, entry, target)
                self.files += 1

    def _put(self, path: str, name: str, entry: Entry, target: OpenFolder) -> None:
        if entry.target is not None:
            target.link(name, entry.target)
            return
        content = self._mirror.read(path)
        self._content_bytes += len(content)
        if self._content_bytes > self._bounds.content_bytes:
            raise CannotExport(f"the files hold more than {self._bounds.content_bytes} bytes")
        target.write(name, content, entry.mode)

    def _count(self, depth: int) -> None:
        self._entries += 1
        if self._entries > self._bounds.files:
            raise CannotExport(f"there are more than {self._bounds.files} files")
        if depth >= self._bounds.depth:
            raise CannotExport(f"folders lie more than {self._bounds.depth} deep in each other")
