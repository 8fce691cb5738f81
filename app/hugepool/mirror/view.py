"""The files of one host as a running service shows them, remembered by revision.

What a file holds is asked for at every read, with the revision that is remembered: as long as the host has it, the
service answers 304 and sends nothing.  Which files there are changes rarely; that is asked for again after a second.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hugepool.client import Client
from hugepool.mirror.listing import Entry, entry_at, read_listing

T = TypeVar("T")
LISTING_SECONDS = 1.0  # as long as the kernel keeps the attributes of a FUSE file
MAX_LISTING_BYTES = 64 << 20  # an entry takes about 60 bytes
MAX_FILE_BYTES = 16 << 20  # the largest of a host, its buddyinfo and zoneinfo, have far less than 1 MiB
MAX_ENTRIES_REMEMBERED = 2_000_000  # of all folders; a host of 1 TiB has about 60,000
MAX_BYTES_REMEMBERED = 64 << 20  # of all files
PATH_BYTES = 200  # what an empty file weighs


@dataclass(frozen=True, slots=True)
class _Listing:
    tag: str
    entries: dict[str, Entry]
    asked_at: float


@dataclass(frozen=True, slots=True)
class _Content:
    tag: str
    content: bytes


class Mirror:
    """One host's files.  May be shared between threads: what is remembered is replaced whole, never changed.

    Every method raises what the client raises: ``Refused`` with the errno, ``Unreachable``, ``BadAnswer``.
    """

    def __init__(self, client: Client, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.client, self.host = client, host
        self._clock = clock
        self._listings: _Remembered[_Listing] = _Remembered(MAX_ENTRIES_REMEMBERED)
        self._contents: _Remembered[_Content] = _Remembered(MAX_BYTES_REMEMBERED)

    def entries(self, path: str) -> dict[str, Entry]:
        """What a folder holds, up to a second old.  Raises NotADirectoryError for a file."""
        seen = self._listings.get(path)
        if seen is not None and self._clock() - seen.asked_at < LISTING_SECONDS:
            return seen.entries
        asked_at = self._clock()
        known = None if seen is None else seen.tag
        shown = self.client.look(self.host, path, known=known, max_bytes=MAX_LISTING_BYTES)
        if shown is None and seen is not None:
            now = _Listing(seen.tag, seen.entries, asked_at)
        elif shown is not None and shown.entries is not None:
            now = _Listing(shown.tag, read_listing(self.client.url, path, shown.entries), asked_at)
        else:
            raise NotADirectoryError(path)
        self._listings.keep(path, now, 1 + len(now.entries))
        return now.entries

    def entry(self, path: str) -> Entry:
        """What is at an absolute path without links in it.  Raises FileNotFoundError for nothing."""
        return entry_at(path, self.entries)

    def read(self, path: str) -> bytes:
        """The bytes of a file as they are now.  Raises IsADirectoryError for a folder."""
        seen = self._contents.get(path)
        known = None if seen is None else seen.tag
        shown = self.client.look(self.host, path, known=known, max_bytes=MAX_FILE_BYTES)
        if shown is None and seen is not None:
            return seen.content
        if shown is None or shown.content is None:
            raise IsADirectoryError(path)
        self._contents.keep(path, _Content(shown.tag, shown.content), PATH_BYTES + len(shown.content))
        return shown.content

    def write(self, path: str, data: bytes, position: int = 0) -> int:
        """write(2): one request; how many bytes were taken.  What folders hold may be another afterwards."""
        taken = self.client.write_at(self.host, path, data, position)
        self._listings.clear()
        return taken


class _Remembered(Generic[T]):
    """Values by path, up to a total weight; then all are forgotten."""

    def __init__(self, most: int) -> None:
        self._most, self._weight = most, 0
        self._values: dict[str, tuple[T, int]] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> T | None:
        found = self._values.get(path)
        return None if found is None else found[0]

    def keep(self, path: str, value: T, weight: int) -> None:
        with self._lock:
            _, replaced = self._values.pop(path, (None, 0))
            self._weight += weight - replaced
            if self._weight > self._most:
                self._values.clear()
                self._weight = weight
            self._values[path] = value, weight

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._weight = 0
