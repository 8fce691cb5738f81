"""PostgreSQL as a database that several servers share.

* A change is acknowledged when it is on the disk, whatever the database's own default is (``synchronous_commit``).
* Connections are tried before they are used, so that a restart or failover of the database costs one refused request
  at most, not one a connection.
* Transactions that only read see one moment (``REPEATABLE READ``).
* Changes are announced (NOTIFY) when they are committed, and every server listens.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text, true
from sqlalchemy.exc import SQLAlchemyError

from hugepool.settings import Settings

LOG = logging.getLogger(__name__)
POSTGRESQL = "postgresql"
READING: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
CHANNEL = "hugepool_changes"
CONNECT_SECONDS = 10
KEEPALIVE_SECONDS = 10
PAUSE_SECONDS = 1.0  # before a connection that was lost is made again
LOOK_SECONDS = 0.5  # how long a stop may go unnoticed
EVERYTHING = ""  # heard when notices may have been missed


class Turn(IntEnum):
    """Advisory locks: what only one transaction at a time may do."""

    MIGRATION = 7221
    CHANGES = 7222


def options(settings: Settings) -> dict[str, Any]:
    """What an engine is made with."""
    wait_ms = int(settings.database_timeout_seconds * 1000)
    set_up = f"-c lock_timeout={wait_ms} -c synchronous_commit=on -c timezone=UTC"
    arguments = {
        "options": set_up,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "hugepool",
        "keepalives_idle": KEEPALIVE_SECONDS,  # a server that vanished without a word is noticed
        "keepalives_interval": KEEPALIVE_SECONDS,
        "keepalives_count": 3,
    }
    return {
        "connect_args": arguments,
        "pool_pre_ping": True,
        "pool_timeout": settings.database_timeout_seconds,
    }


def take_turns(connection: Connection, turn: Turn) -> None:
    """Wait until no other transaction has the turn; it is given back at the end of this one."""
    connection.execute(select(func.pg_advisory_xact_lock(int(turn))))


def write_a_little(connection: Connection) -> None:
    """Something that has to reach the disk when it is committed, and changes no row."""
    connection.execute(select(func.pg_logical_emit_message(true(), "hugepool", "")))


def announce(connection: Connection, name: str) -> None:
    """Tell all servers, once this transaction is committed, that a host changed."""
    if connection.dialect.name == POSTGRESQL:
        connection.execute(select(func.pg_notify(CHANNEL, name)))


class Notices:
    """A thread with a connection of its own that hears of changes.

    While it has a connection, ``listening`` is set: nobody needs to ask for changes then.
    """

    def __init__(self, engine: Engine, heard: Callable[[str], None]) -> None:
        self._engine = engine
        self._heard = heard
        self._stopping = threading.Event()
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, within a moment."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        driver: Any = self._engine.dialect.loaded_dbapi
        while not self._stopping.is_set():
            try:
                self._listen()
            except (SQLAlchemyError, driver.Error) as error:
                first_line = str(error).partition("\n")[0]
                LOG.warning("changes of other servers cannot be heard of right now: %s", first_line)
            self.listening.clear()
            self._stopping.wait(PAUSE_SECONDS)

    def _listen(self) -> None:
        with self._engine.connect() as connection:
            raw: Any = connection.execution_options(isolation_level="AUTOCOMMIT")
            raw.execute(text(f"LISTEN {CHANNEL}"))
            driver = connection.connection.driver_connection
            self.listening.set()
            self._heard(EVERYTHING)  # what was changed before is known from now on
            try:
                while not self._stopping.is_set() and driver is not None:
                    for notice in driver.notifies(timeout=LOOK_SECONDS):
                        self._heard(notice.payload)
            finally:
                with suppress(SQLAlchemyError):
                    connection.invalidate()  # it listens: nobody else may get it
