"""SQLite as a service needs it: one file, private, set up the same way on every connection.

* WAL: readers and the one writer do not wait for each other.  The log shrinks to ``WAL_BYTES`` when it starts anew.
* ``synchronous=FULL``: an acknowledged change is on the disk.  With NORMAL it would survive the death of the
  process but not a loss of power, as WAL then syncs at checkpoints only.
* ``isolation_level=None`` on connect and ``BEGIN IMMEDIATE`` on begin: the driver's own late BEGIN loses
  concurrent read-modify-writes without any error.
* ``auto_vacuum=INCREMENTAL`` in a new file: pages of deleted rows can be given back bit by bit.
"""

import logging
import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from hugepool.store.errors import StoreFailure

LOG = logging.getLogger(__name__)
WAL_BYTES = 16 << 20
PRIVATE = 0o600
MIN_FREE_BYTES = 4 << 20
OTHERS = stat.S_IRWXG | stat.S_IRWXO
INCREMENTAL = 2  # of PRAGMA auto_vacuum
MAX_REBUILD_BYTES = 1 << 30  # a larger file is not rebuilt at a start


class SqliteFile:
    """The file behind an ``sqlite:///`` address.

    It is created readable and writable for its owner alone.  Once a connection is open, the path must lead to
    the same file: what is written to a file that was replaced or removed would be lost at the next start.

    Raises:
        StoreFailure: the address names no file.
    """

    def __init__(self, url: URL, timeout_seconds: float) -> None:
        if not url.database or ":memory:" in url.database or "mode=memory" in str(url):
            raise StoreFailure(
                "the database URL cannot be used: SQLite in memory would be another database for each connection; "
                "name a file, such as sqlite:///hugepool.db"
            )
        self.path = None if url.database.startswith("file:") else Path(url.database)
        self._timeout_seconds = timeout_seconds
        self._known: tuple[int, int] | None = None

    def prepare(self, *_: Any) -> None:
        """Before a connection is opened: a new file is made, a file that has gone is not made again."""
        if self.path is None:
            return
        if self._known is not None:
            self.check()
            return
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
        except FileExistsError:
            self._warn_if_open()
        except OSError:
            pass  # SQLite finds the words for it

    def _warn_if_open(self) -> None:
        if self.path is not None and self.path.stat().st_mode & OTHERS:
            LOG.warning("others than its owner may use the database file %s; chmod 600 ends that", self.path)

    def set_up(self, raw: Any, _record: Any) -> None:
        """After a connection was opened."""
        if self.path is not None:
            found = self.path.stat()
            self._known = self._known or (found.st_dev, found.st_ino)
            self.check()
        raw.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(self._timeout_seconds * 1000)}",
            "synchronous = FULL",
            "foreign_keys = ON",
            "cell_size_check = ON",  # damaged pages are found when they are read
            f"journal_size_limit = {WAL_BYTES}",
        ):
            raw.execute(f"PRAGMA {pragma}").close()
        _switch_to_wal(raw, self._timeout_seconds)

    def set_up_migration(self, raw: Any, _record: Any) -> None:
        """The same for a migration, which waits longer and moves rows that others refer to."""
        raw.isolation_level = None
        raw.execute("PRAGMA busy_timeout = 60000").close()
        raw.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}").close()  # of a new file; of others nothing changes

    def check(self) -> None:
        """Raises StoreFailure when the path leads to another file than the open connections use."""
        if self.path is None or self._known is None:
            return
        try:
            found = self.path.stat()
        except OSError as error:
            raise StoreFailure(f"the database file cannot be found any more: {error.strerror}") from None
        if (found.st_dev, found.st_ino) != self._known:
            raise StoreFailure("the database file was replaced by another; start the service again")

    def check_room(self) -> None:
        """Raises StoreFailure when the disk has no room for the next changes."""
        if self.path is None:
            return
        disk = os.statvfs(self.path)
        free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
        if free < MIN_FREE_BYTES:
            raise StoreFailure(f"the disk of the database has {free >> 10} KiB left")

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        if self.path is None:
            return 0
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except OSError:
            return 0

    def rebuild(self) -> None:
        """Let a file of an earlier version give pages back bit by bit: SQLite has to write it anew for that.

        Left for another start when others use it, when it is large or when the disk has no room.
        """
        if self.path is None or self.path.stat().st_size > MAX_REBUILD_BYTES:
            return
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=1.0)) as raw:
                if raw.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
                    raw.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}").close()
                    raw.execute("VACUUM").close()
        except sqlite3.Error as error:
            LOG.warning("the database file could not be rebuilt to give deleted pages back: %s", error)


def _switch_to_wal(raw: Any, timeout_seconds: float) -> None:
    """WAL stays with the file; the first switch waits for other processes, which SQLite itself does not do."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline or "locked" not in str(error):
                raise
            time.sleep(0.01)
        else:
            return
