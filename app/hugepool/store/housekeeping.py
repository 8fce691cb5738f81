"""Limits of time: old rows are deleted, and their room is given back, a little at a time.

Every transaction here is short, so that it holds up no change for long.  Processes that share a database may all do
this: what one has deleted the others do not find.  (The rows of ``history`` are pruned where they are written.)
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Delete, delete, func, select

from hugepool.settings import Settings
from hugepool.store import tables as t
from hugepool.store.engine import Database

BATCH = 500  # rows of one transaction
MAX_KEYS = 100_000  # answers kept, however young


@dataclass(slots=True)
class Swept:
    """What one round did: rows deleted, pages of the file given back."""

    keys: int = 0
    events: int = 0
    pages: int = 0


class Housekeeping:
    """Keeps the database from growing without end."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    def run(self) -> Swept:
        """One round.  Raises StoreFailure."""
        swept = Swept(self._delete_keys(), self._delete_events())
        swept.pages = self._database.give_pages_back()
        self._database.shorten_log()
        return swept

    def _delete_keys(self) -> int:
        k = t.idempotency_keys.c
        old = select(k.key).where(k.expires_ns <= self._clock()).limit(BATCH)
        surplus = select(k.key).order_by(k.expires_ns.desc()).offset(MAX_KEYS).limit(BATCH)
        return sum(
            self._until_none(delete(t.idempotency_keys).where(k.key.in_(found))) for found in (old, surplus)
        )

    def _until_none(self, statement: Delete) -> int:
        deleted = 0
        while True:
            with self._database.writing() as connection:
                count = connection.execute(statement).rowcount
            deleted += count
            if count < BATCH:
                return deleted

    def _delete_events(self) -> int:
        """Of each host all but the newest ``events_kept``."""
        h, e = t.hosts.c, t.events.c
        surplus = h.last_event_id - self._settings.events_kept
        first = select(func.min(e.id)).where(e.host_id == h.id).scalar_subquery()
        query = select(h.id, first, surplus).where(surplus > 0, first <= surplus)
        with self._database.reading() as connection:
            found = list(connection.execute(query))
        return sum(self._delete_range(host_id, low, high) for host_id, low, high in found)

    def _delete_range(self, host_id: int, low: int, high: int) -> int:
        e, deleted = t.events.c, 0
        for begin in range(low, high + 1, BATCH):
            end = min(begin + BATCH - 1, high)
            with self._database.writing() as connection:
                these = delete(t.events).where(e.host_id == host_id, e.id.between(begin, end))
                deleted += connection.execute(these).rowcount
        return deleted
