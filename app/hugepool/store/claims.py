"""The deferred-free worker's work list: which hosts need it, which process is at which, and how it went.

A host is claimed in the database before it is worked on, so that processes that share the database never work
on the same one; a claim runs out, so that the death of a process does not leave a host behind.
"""

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import ScalarSelect, exists, select, update

from hugepool.settings import Settings
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import StoreFailure
from hugepool.store.health import FailingHost, WorkerHealth

SECOND_NS = 1_000_000_000
MAX_BACKOFF_SECONDS = 300.0
MISSED_BEATS = 5  # times the poll interval, until the worker counts as dead


def _host_id(name: str) -> ScalarSelect[Any]:
    return select(t.hosts.c.id).where(t.hosts.c.name == name).scalar_subquery()


class WorkQueue:
    """The work list as one process sees it; ``owner`` names the process in its claims."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._last_beat_ns: int | None = None
        self._last_error: str | None = None
        self.owner = uuid.uuid4().hex

    def due(self) -> list[str]:
        """Hosts in mode ``auto`` with queued frees that nobody is at and whose pause is over."""
        h, w, now_ns = t.hosts.c, t.worker_claims.c, self._clock()
        query = (
            select(h.name)
            .join_from(t.hosts, t.worker_claims)
            .where(h.deferred_mode == "auto", w.claimed_until_ns <= now_ns, w.retry_at_ns <= now_ns)
            .where(exists().where(t.deferred_frees.c.host_id == h.id))
            .order_by(w.retry_at_ns, h.id)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def claim(self, name: str) -> bool:
        """Take a host, for ``worker_claim_seconds``; False when another has it or it is gone."""
        w, now_ns = t.worker_claims.c, self._clock()
        until_ns = now_ns + int(self._settings.worker_claim_seconds * SECOND_NS)
        free = update(t.worker_claims).where(w.host_id == _host_id(name), w.claimed_until_ns <= now_ns)
        with self._database.writing() as connection:
            taken = connection.execute(free.values(owner=self.owner, claimed_until_ns=until_ns))
            return taken.rowcount == 1

    def release(self, name: str, failure: str | None) -> None:
        """Give a host back.  After a ``failure`` it is left alone for a pause that doubles each time."""
        w, now_ns = t.worker_claims.c, self._clock()
        mine = (w.host_id == _host_id(name), w.owner == self.owner)
        with self._database.writing() as connection:
            before = connection.execute(select(w.failures).where(*mine)).scalar_one_or_none()
            if before is None:
                return
            failures = 0 if failure is None else before + 1
            retry_at_ns = now_ns + self._pause_ns(failures) if failures else 0
            values = {"owner": None, "claimed_until_ns": 0, "retry_at_ns": retry_at_ns}
            connection.execute(
                update(t.worker_claims).where(*mine).values(failures=failures, last_error=failure, **values)
            )

    def _pause_ns(self, failures: int) -> int:
        seconds = self._settings.worker_backoff_seconds * 2.0 ** min(failures - 1, 20)
        return int(min(seconds, MAX_BACKOFF_SECONDS) * SECOND_NS)

    def failures(self, name: str | None = None) -> list[FailingHost]:
        """Hosts whose last drain failed."""
        w = t.worker_claims.c
        query = select(t.hosts.c.name, w.failures, w.last_error).join_from(t.hosts, t.worker_claims)
        query = query.where(w.failures > 0).order_by(t.hosts.c.name)
        if name is not None:
            query = query.where(t.hosts.c.name == name)
        with self._database.reading() as connection:
            return [FailingHost(*row) for row in connection.execute(query)]

    # -- is the worker alive -----------------------------------------------------------------------------

    def beat(self, error: str | None = None) -> None:
        """The worker of this process is alive; ``error``: but its last round failed, and why."""
        self._last_beat_ns, self._last_error = self._clock(), error

    def health(self) -> WorkerHealth:
        """Whether the worker of this process works."""
        if not self._settings.worker_enabled:
            return WorkerHealth(ok=True, enabled=False, failures=[])
        limit_seconds = (
            MISSED_BEATS * self._settings.worker_poll_seconds + self._settings.worker_claim_seconds
        )
        last = self._last_beat_ns
        alive = last is not None and self._clock() - last <= limit_seconds * SECOND_NS
        try:
            error, failures = self._last_error, self.failures()
        except StoreFailure as failure:
            return WorkerHealth(ok=False, enabled=True, failures=[], error=str(failure))
        return WorkerHealth(ok=alive and error is None, enabled=True, failures=failures, error=error)
