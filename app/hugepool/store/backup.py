"""A copy of a database of one moment, while the service goes on."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hugepool.store.sqlite import PRIVATE

PART = ".part"  # the name ends so until the copy is whole and on the disk
PAGES = -1  # all in one step: one moment, however busy the service is; in WAL mode nobody waits for it


class CannotBackUp(Exception):
    """There is no copy, and nothing else was changed."""


def back_up(database_url: str, target: Path, progress: Callable[[int, int], None]) -> int:
    """Copy a SQLite database to a new file, of one moment, checked, private, and on the disk.

    Args:
        target: a path where nothing is yet.
        progress: is called with pages left and pages in all.

    Returns:
        The size of the copy in bytes.

    Raises:
        CannotBackUp: no SQLite file, the target exists, the disk is full, or the copy is not whole.
    """
    source = _source(database_url)
    if target.exists():
        raise CannotBackUp(f"{target} exists already")
    part = target.with_name(target.name + PART)
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, PRIVATE))
    except OSError as error:
        raise CannotBackUp(f"{part} cannot be made: {error.strerror}") from None
    try:
        _copy(source, part, progress)
        _settle(part, target)
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        raise CannotBackUp(f"{source} cannot be copied to {target}: {error}") from None
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return target.stat().st_size


def _source(database_url: str) -> Path:
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise CannotBackUp(f"the database URL cannot be used: {error}") from None
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        raise CannotBackUp("only a SQLite file can be backed up here; other databases have their own tools")
    source = Path(url.database)
    if not source.is_file():
        raise CannotBackUp(f"there is no database {source}")
    return source


def _copy(source: Path, part: Path, progress: Callable[[int, int], None]) -> None:
    with closing(sqlite3.connect(source, timeout=30.0)) as here, closing(sqlite3.connect(part)) as copy:
        here.backup(copy, pages=PAGES, progress=lambda _status, left, total: progress(left, total))
        copy.execute(
            "PRAGMA journal_mode = DELETE"
        ).close()  # one file; a service that opens it returns to WAL
        (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"the database is damaged: {found}")


def _settle(part: Path, target: Path) -> None:
    """Bring the copy to the disk under its name, which must still be free."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    os.link(part, target)  # unlike a rename it replaces nothing
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
