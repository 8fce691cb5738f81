"""The files of one host as a running service shows them, remembered by revision.

What a file holds is asked for at every read, with the revision that is remembered: as long as the host has it, the
service answers 304 and sends nothing.  Which files there are changes rarely; that is asked for again after a second.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hugepool.client import Client, Json

T = TypeVar("T")
LISTING_SECONDS = 1.0  # as long as the kernel keeps the attributes of a FUSE file
MAX_REMEMBERED = 100_000  # paths; a host of 1 TiB has about 60,000


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder.

    Attributes:
        type: ``file``, ``directory`` or ``symlink``.
        mode: permission bits.
        target: where a symlink leads, relative to its folder.
    """

    type: str
    mode: int
    target: str | None = None


ROOT = Entry("directory", 0o755)


@dataclass(frozen=True, slots=True)
class _Listing:
    revision: int
    entries: dict[str, Entry]
    asked_at: float


@dataclass(frozen=True, slots=True)
class _Content:
    revision: int
    content: bytes


class Mirror:
    """One host's files.  May be shared between threads: what is remembered is replaced whole, never changed.

    Every method raises what the client raises: ``Refused`` with the errno, ``Unreachable``.
    """

    def __init__(self, client: Client, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.client, self.host = client, host
        self._clock = clock
        self._listings: dict[str, _Listing] = {}
        self._contents: dict[str, _Content] = {}

    def entries(self, path: str) -> dict[str, Entry]:
        """What a folder holds, up to a second old.  Raises NotADirectoryError for a file."""
        seen = self._listings.get(path)
        if seen is not None and self._clock() - seen.asked_at < LISTING_SECONDS:
            return seen.entries
        asked_at = self._clock()
        shown = self.client.look(self.host, path, known=None if seen is None else seen.revision)
        if shown is None and seen is not None:
            now = _Listing(seen.revision, seen.entries, asked_at)
        elif shown is not None and shown.entries is not None:
            now = _Listing(shown.revision, _entries(shown.entries), asked_at)
        else:
            raise NotADirectoryError(path)
        _remember(self._listings, path, now)
        return now.entries

    def entry(self, path: str) -> Entry:
        """What is at an absolute path without links in it.  Raises FileNotFoundError for nothing."""
        folder, _, name = path.rstrip("/").rpartition("/")
        if not name:
            return ROOT
        found = self.entries(folder or "/").get(name)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def read(self, path: str) -> bytes:
        """The bytes of a file as they are now.  Raises IsADirectoryError for a folder."""
        seen = self._contents.get(path)
        shown = self.client.look(self.host, path, known=None if seen is None else seen.revision)
        if shown is None and seen is not None:
            return seen.content
        if shown is None or shown.content is None:
            raise IsADirectoryError(path)
        _remember(self._contents, path, _Content(shown.revision, shown.content))
        return shown.content

    def write(self, path: str, data: bytes) -> None:
        """write(2): one request.  What folders hold may be another afterwards."""
        self.client.write_file(self.host, path, data)
        self._listings.clear()


def _entries(listing: list[Json]) -> dict[str, Entry]:
    return {row["name"]: Entry(row["type"], int(row["mode"], 8), row.get("target")) for row in listing}


def _remember(seen: dict[str, T], path: str, value: T) -> None:
    if len(seen) >= MAX_REMEMBERED:
        seen.clear()
    seen[path] = value
