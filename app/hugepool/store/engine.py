"""The database connection, and all that depends on which database it is.

SQLite, the default, is set up in ``sqlite.py``.  Its writers of this process queue at a lock of our own: SQLite's
waiting for its write lock polls and is unfair.

PostgreSQL, which servers on several machines can share, is set up in ``postgresql.py``.
"""

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Select, Table, create_engine, event, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from hugepool.settings import Settings
from hugepool.store import postgresql
from hugepool.store.errors import Busy, Damaged, RowRefused, StaleRevision, StoreFailure, WouldWait
from hugepool.store.postgresql import POSTGRESQL, Turn
from hugepool.store.sqlite import WAL_BYTES, SqliteFile

_WRITE_OPTION = "hugepool_write"
_PROBE_SECONDS = 2.0
SPARE_PAGES = 256  # left free in the file for the next rows
PAGES_AT_ONCE = 200  # of one transaction
MOST_PAGES = 50_000  # of one round
# Unique keys that two callers may want at once: whoever comes second starts again.  SQLite's words, PostgreSQL's.
_RACES = {"hosts.name", "uq_hosts_name", "idempotency_keys.key", "pk_idempotency_keys"}
_UNIQUE = re.compile(r"UNIQUE constraint failed: (\S+)")
_BUSY_WORDS = ("locked", "busy", "could not serialize", "deadlock detected", "lock timeout")
_DAMAGE_WORDS = (
    "malformed", "not a database", "could not decode",
    "no such table", "no such column", "has no column", "does not exist",
)  # fmt: skip


class Database:
    """Connections for reading and for writing; errors come out as those of ``store.errors``."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_seconds = settings.database_timeout_seconds
        try:
            self.url = make_url(settings.database_url)
            sqlite = self.url.get_backend_name() == "sqlite"
            self._file = SqliteFile(self.url, settings.database_timeout_seconds) if sqlite else None
            self._is_postgresql = self.url.get_backend_name() == POSTGRESQL
            more = postgresql.options(settings) if self._is_postgresql else {}
            self._engine = create_engine(
                self.url,
                json_serializer=to_json,
                pool_size=settings.database_pool,
                max_overflow=settings.database_pool,
                **more,
            )
        except (SQLAlchemyError, ImportError) as error:
            raise StoreFailure(f"the database URL cannot be used: {error}") from error
        self._statements: dict[Select[Any], tuple[str, list[str]]] = {}  # of ``first``
        self._at_hand: Any = None
        self._at_hand_guard = threading.Lock()
        self._writer = threading.Lock()
        if self._file is not None:
            _listen(self._engine, self._file, self._file.set_up)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One moment of the database, for as many SELECTs as needed."""
        options = postgresql.READING if self._is_postgresql else {}
        with (
            _translated(),
            self._engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def first(self, query: Select[Any], **values: Any) -> Sequence[Any] | None:
        """The first row of one SELECT of plain columns, or None: what every request asks.

        A driver that takes values by position is asked directly, without what a transaction and a result cost:
        20 us instead of 330.  Should it fail, it is asked in the ordinary way, which tells errors apart.
        """
        dialect = self._engine.dialect
        if dialect.positional and dialect.loaded_dbapi is not None:
            with _translated(), suppress(dialect.loaded_dbapi.Error):
                return self._first_of_driver(query, values)
        with self.reading() as connection:
            return connection.execute(query, values).first()

    def first_at_hand(self, query: Select[Any], **values: Any) -> Sequence[Any] | None:
        """The same for a caller that must not wait, an event loop: of an SQLite file, through its own connection.

        Raises:
            WouldWait: another database, or one that is not free right now.
        """
        if self._file is None or not self._at_hand_guard.acquire(blocking=False):
            raise WouldWait
        try:
            if self._at_hand is None:
                self._at_hand = self._engine.raw_connection()
                self._at_hand.cursor().execute("PRAGMA busy_timeout = 0").close()
            return self._fetch(self._at_hand, query, values)
        except (sqlite3.Error, SQLAlchemyError, UnicodeDecodeError):
            raise WouldWait from None
        finally:
            self._at_hand_guard.release()

    def _first_of_driver(self, query: Select[Any], values: dict[str, Any]) -> Sequence[Any] | None:
        with closing(self._engine.raw_connection()) as raw:
            return self._fetch(raw, query, values)

    def _fetch(self, raw: Any, query: Select[Any], values: dict[str, Any]) -> Sequence[Any] | None:
        known = self._statements.get(query)
        if known is None:
            compiled = query.compile(dialect=self._engine.dialect)
            known = self._statements[query] = (str(compiled), list(compiled.params))
        statement, names = known
        cursor = raw.cursor()
        cursor.execute(statement, [values[name] for name in names])
        found = cursor.fetchall()  # all, so that no read stays open
        return found[0] if found else None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, committed at the end; no other writes meanwhile.

        Raises:
            Busy: other writers held the database for longer than the time set.
            StaleRevision: another process inserted the same row first.
        """
        with _translated(), self._alone(self._timeout_seconds), self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        connection = self._engine.connect().execution_options(**{_WRITE_OPTION: True})
        with connection, connection.begin():
            yield connection

    @contextmanager
    def _alone(self, timeout_seconds: float) -> Iterator[None]:
        """The one writer of this process, and SQLite's file still where it was."""
        if self._file is None:
            yield
            return
        if not self._writer.acquire(timeout=timeout_seconds):
            raise Busy("other writers keep the database busy")
        try:
            self._file.check()
            yield
        finally:
            self._writer.release()

    def probe(self) -> None:
        """Write a little and commit it, as any change does.  Raises StoreFailure where that does not work."""
        with _translated(), self._alone(_PROBE_SECONDS), self._transaction() as connection:
            if self._file is None:
                postgresql.write_a_little(connection)
            else:
                count = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
                connection.exec_driver_sql(f"PRAGMA user_version = {(count + 1) & 0x7FFFFFFF}")
        if self._file is not None:
            self._file.check_room()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """One transaction for a migration: alone in the database, foreign keys not enforced.

        SQLite changes a table by copying and dropping it, which would delete the rows that refer to it.
        """
        engine = create_engine(self.url, poolclass=NullPool)
        if self._file is not None:
            _listen(engine, self._file, self._file.set_up_migration)
        with (
            _translated(),
            engine.connect().execution_options(**{_WRITE_OPTION: True}) as connection,
            connection.begin(),
        ):
            if self._is_postgresql:
                postgresql.take_turns(connection, Turn.MIGRATION)
            yield connection

    def in_order(self, connection: Connection) -> None:
        """Until the transaction ends, no other one writes behind all changes: their numbers come in order.

        SQLite has one writer at a time anyway.  On PostgreSQL a number that is given out first may be committed
        last, and who reads on from the newest number would miss it.
        """
        if self._is_postgresql:
            postgresql.take_turns(connection, Turn.CHANGES)

    def follow(self, heard: Callable[[str], None]) -> postgresql.Notices | None:
        """Call ``heard`` with the name of every host that any process changed; None where there is only asking."""
        return postgresql.Notices(self._engine, heard) if self._is_postgresql else None

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database, where its address names one plainly."""
        return None if self._file is None else self._file.path

    def nbytes(self, connection: Connection) -> int:
        """Size of the database in bytes; 0 of one that is no file."""
        if self._file is None:
            return 0
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA page_{what}").scalar_one() for what in ("count", "size")
        )
        return int(pages * size)

    def rebuild(self) -> None:
        """Once, at the first start with a file of an earlier version: see ``SqliteFile.rebuild``."""
        if self._file is not None:
            self._file.rebuild()

    def give_pages_back(self) -> int:
        """Shorten SQLite's file by pages that deleted rows have left, a few at a time; how many."""
        given, step = 0, 1
        while self._file is not None and step and given < MOST_PAGES:
            with (
                _translated(),
                self._alone(self._timeout_seconds),
                closing(self._engine.raw_connection()) as raw,
            ):
                step = _vacuum(raw)
            given += step
        return given

    def shorten_log(self) -> None:
        """Write SQLite's log back into its file once it is long.  Readers that are at it may put that off."""
        if self._file is None or self._file.wal_bytes <= WAL_BYTES:
            return
        with _translated(), self._alone(self._timeout_seconds), closing(self._engine.raw_connection()) as raw:
            cursor = raw.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()
            cursor.close()

    def close(self) -> None:
        """Close all connections."""
        with self._at_hand_guard:
            if self._at_hand is not None:
                self._at_hand.close()
                self._at_hand = None
        event.listen(self._engine.pool, "checkin", _close_late)  # of threads that a stop has left behind
        self._engine.dispose()


def _close_late(_raw: Any, record: ConnectionPoolEntry) -> None:
    record.invalidate()


def _vacuum(raw: Any) -> int:
    """Give up to ``PAGES_AT_ONCE`` pages back, in one transaction; how many."""
    cursor = raw.cursor()
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    if free > SPARE_PAGES:  # SQLite gives a row without columns for each page, which only a script reads on
        cursor.executescript(f"PRAGMA incremental_vacuum({min(PAGES_AT_ONCE, free - SPARE_PAGES)})")
    (left,) = cursor.execute("PRAGMA freelist_count").fetchone()
    cursor.close()
    return max(0, int(free) - int(left))


def insert_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """Insert many rows of plain values, given in the order of ``columns``.

    A driver that takes values by position gets them as they are: four times as fast as rows with names.
    """
    if not rows:
        return
    if connection.dialect.positional:
        connection.exec_driver_sql(_insert_text(table, tuple(columns), connection.dialect), rows)
    else:
        connection.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in rows])


@lru_cache
def _insert_text(table: Table, columns: tuple[str, ...], dialect: Dialect) -> str:
    """The text of an insert for a driver; making it costs more than running it."""
    return str(insert(table).compile(dialect=dialect, column_keys=list(columns)))


def _listen(engine: Engine, file: SqliteFile, set_up: Callable[[Any, Any], None]) -> None:
    event.listen(engine, "do_connect", file.prepare)
    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", _begin_sqlite)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE_OPTION)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def to_json(value: Any) -> str:
    """JSON of a value that may hold numbers of numpy."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers."""
    return value.item() if hasattr(value, "item") else list(value)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if _constraint(error) in _RACES:
            raise StaleRevision(str(error.orig)) from error
        raise RowRefused(str(error.orig)) from error
    except PoolTimeout as error:
        raise Busy("no database connection became free") from error
    except OperationalError as error:
        if any(word in str(error.orig).lower() for word in _BUSY_WORDS):
            raise Busy(f"the database is busy: {error.orig}") from error
        raise _failure(str(error.orig)) from error
    except UnicodeDecodeError as error:  # the driver reads what SQLite says of a schema that is no text
        raise Damaged("the database is damaged: what should be text in it is none") from error
    except SQLAlchemyError as error:
        first_line = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise _failure(first_line) from error


def _failure(text: str) -> StoreFailure:
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    damaged = any(word in text.lower() for word in _DAMAGE_WORDS)
    return (
        Damaged(f"the database is damaged: {text}")
        if damaged
        else StoreFailure(f"the database failed: {text}")
    )


def _constraint(error: IntegrityError) -> str | None:
    """What a row broke, as the database names it: a driver's own field, else SQLite's message."""
    named: str | None = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    found = _UNIQUE.search(str(error.orig))
    return named or (found and found[1])
