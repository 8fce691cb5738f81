"""What can be read of hosts and followed; no method changes one."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hugepool.fs.figures import figures, states
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.state import Host
from hugepool.mm.views import check
from hugepool.mm.views.check import Audit, Law
from hugepool.mm.views.history import EventRow
from hugepool.mm.views.host_view import HostRow, Identity
from hugepool.service.terms import (
    HostNotFound,
    Revision,
)
from hugepool.settings import Settings
from hugepool.store import check as check_store
from hugepool.store import events, feed, fleet, history, migrate
from hugepool.store.cache import HostCache, HostLocks
from hugepool.store.claims import WorkQueue
from hugepool.store.engine import Database
from hugepool.store.errors import StoreFailure, WouldWait
from hugepool.store.feed import ChangeOfHost
from hugepool.store.fleet import Filter, Member
from hugepool.store.health import DatabaseHealth, MigrationsHealth, Parts
from hugepool.store.history import Moment
from hugepool.store.hosts import HostStore, Loaded
from hugepool.store.housekeeping import Housekeeping
from hugepool.store.news import News
from hugepool.store.postgresql import Notices

T = TypeVar("T")
Events = list[EventRow]
Changes = list[ChangeOfHost]
Found = TypeVar("Found", Events, Changes)
HostRows = list[HostRow]
Listener = Callable[[str, bool], None]  # the host's name; whether it has work for the worker

MAX_DMESG_LINES = 10_000
PAGE_OF_MEMBERS = 1000
LISTENING_POLL_SECONDS = 10.0
ANY_HOST = ""  # who waits for it is woken by every change
PROBE_SECONDS = 1.0  # a successful look at the database is good for this long


def _is_in(member: Member, wanted: Collection[str]) -> bool:
    """Whether a host is in any of the wanted states; in none wanted, it is."""
    return not wanted or (member.figures is not None and bool(set(states(member.figures)) & set(wanted)))


def revision_of(loaded: Loaded) -> Revision:
    """The revision of a host in memory."""
    return Revision(loaded.revision, loaded.created_at)


class Reader:
    """The hosts of a database, in memory where they are used; any thread may call."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = time.time_ns) -> None:
        self.settings = settings
        self._clock = clock
        self._database = Database(settings)
        self._hosts = HostStore(self._database, settings.history_rows)
        self._cache = HostCache(settings.cache_bytes, settings.host_wait_seconds)
        self._locks = HostLocks(settings.host_wait_seconds)
        self._news = News()
        self._notices: Notices | None = None
        self._closed = False
        self._probe = threading.Lock()
        self._probed = -PROBE_SECONDS
        self._listeners: list[Listener] = []
        self.work = WorkQueue(self._database, settings, clock)
        self.housekeeping = Housekeeping(self._database, settings, clock)

    def start(self) -> None:
        """Bring the database to the newest schema; safe while other processes do the same.

        Raises:
            StoreFailure: the database cannot be used, or is damaged.
        """
        migrate.upgrade(self._database)
        self._database.rebuild()
        check_store.at_start(self._database)
        self._notices = self._database.follow(self._heard)

    def close(self) -> None:
        """Close the database connections; callers in ``wait_events`` look once more and return."""
        self._closed = True
        self._news.wake_all()
        if self._notices is not None:
            self._notices.stop()
        self._database.close()

    def revision(self, name: str) -> int:
        """The revision of a host.  Raises HostNotFound."""
        return self._identity(name)[1]

    def read(self, name: str, fn: Callable[[Host], T], *, wait: bool = True) -> tuple[T, int]:
        """What ``fn`` makes of the host as it is now, and its revision.  ``fn`` changes nothing.

        Without ``wait``: WouldWait where the host is in use, or not in memory as it is now.
        """
        identity = self._identity(name, wait=wait)  # before the lock: readers wait only while others look
        with self._alone(name, wait=wait):
            loaded = self._at_hand(name, identity, wait=wait)
            return fn(loaded.host), revision_of(loaded)

    def _at_hand(self, name: str, identity: tuple[int, int], *, wait: bool) -> Loaded:
        loaded = self._cache.get(name, *identity)
        if loaded is None and not wait:
            raise WouldWait
        return loaded or self._current(name)

    def show(self, name: str, view: Callable[[Host, Identity], T], *, wait: bool = True) -> tuple[T, int]:
        """What ``view`` makes of a host and its name, revision and time of creation; and the revision.

        For a function of a module that is asked often: its value is made once a revision, and shared.  A
        summary takes several passes over arrays by section; its readers wait for each other meanwhile.
        Without ``wait``: WouldWait where it is not made yet, or as for ``read``.
        """
        identity = self._identity(name, wait=wait)
        with self._alone(name, wait=wait):
            loaded = self._at_hand(name, identity, wait=wait)
            known = loaded.shown.get(view)
            if known is None or known[0] != loaded.revision:
                if not wait:
                    raise WouldWait
                shown = view(loaded.host, Identity(name, loaded.revision, loaded.created_at))
                known = loaded.shown[view] = loaded.revision, shown
            return known[1], Revision(known[0], loaded.created_at)

    def all_members(self, which: Filter) -> Iterator[Member]:
        """Every host that a filter fits, by name; a page of them is read at a time."""
        after: str | None = None
        while True:
            members, after = self.members(which, after, PAGE_OF_MEMBERS)
            yield from members
            if after is None:
                return

    def members(self, which: Filter, after: str | None, limit: int) -> tuple[list[Member], str | None]:
        """Up to ``limit`` hosts that a filter fits, by name, and the name that the next page begins behind."""
        found: list[Member] = []
        size = PAGE_OF_MEMBERS if which.states else limit + 1
        while True:
            page = fleet.members(self._database, which, after, size)
            for member in map(self._with_figures, page):
                after = member.name
                if _is_in(member, which.states):
                    if len(found) == limit:
                        return found, found[-1].name
                    found.append(member)
            if len(page) < size:
                return found, None

    def _with_figures(self, member: Member) -> Member:
        """A host that was stored before figures were kept is looked at."""
        if member.figures is not None:
            return member
        try:
            found, _ = self.read(member.name, lambda host: figures(host, (), None))
        except HostNotFound:  # deleted meanwhile
            return member
        return member._replace(figures=found)

    def nr_hosts(self) -> int:
        """How many hosts there are."""
        return self._hosts.count()

    def history(self, name: str, after: int = 0, limit: int = 100) -> list[Moment]:
        """The figures of up to ``limit`` revisions behind ``after``, oldest first."""
        host_id, _ = self._identity(name)
        return history.after(self._database, host_id, after, limit)

    def list(self, limit: int, cursor: str | None = None) -> tuple[HostRows, str | None]:
        """Hosts by name, and the cursor of the next page."""
        found = self._hosts.page(limit + 1, cursor)
        return found[:limit], found[limit - 1].name if len(found) > limit else None

    def events(self, name: str, after: int = 0, limit: int = 100, kind: str | None = None) -> Events:
        """Events behind number ``after``, oldest first.

        ``kind`` picks one type; the console is the type KernelMessagePrinted.
        """
        host_id, _ = self._identity(name)
        return events.after(self._database, host_id, after, limit, kind)

    def console(self, name: str, limit: int = MAX_DMESG_LINES) -> Events:
        """The newest lines of the console, oldest first."""
        host_id, _ = self._identity(name)
        return events.newest(self._database, host_id, limit, Event.KERNEL_MESSAGE_PRINTED)

    def wait_events(self, name: str, after: int, timeout_seconds: float, limit: int = 100) -> Events:
        """The same, waiting for the first one; none after ``timeout_seconds``.

        Changes of this process wake it at once, those of other processes within ``events_poll_seconds``.
        """
        return self._waited(
            name,
            lambda: self.events(name, after, limit) if self.last_event(name) > after else [],
            timeout_seconds,
        )

    def changes(self, after: int, limit: int = 100) -> Changes:
        """Changes of all hosts behind number ``after``, oldest first."""
        return feed.after(self._database, after, limit)

    def newest_change(self) -> int:
        """Number of the last change of any host; 0 before the first."""
        return feed.newest(self._database)

    def wait_changes(self, after: int, timeout_seconds: float, limit: int = 100) -> Changes:
        """The same, waiting for the first one; none after ``timeout_seconds``."""
        return self._waited(ANY_HOST, lambda: self.changes(after, limit), timeout_seconds)

    def last_event(self, name: str) -> int:
        """Number of the last event of a host.  Raises HostNotFound."""
        number = self._hosts.last_event(name)
        if number is None:
            raise HostNotFound(name)
        return number

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` after each change that this process made; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def audit(self, name: str) -> tuple[Audit, int]:
        """Every law held against the host as its rows say it, and that the one in memory is the same."""
        with self._alone(name):  # others change the running host afterwards
            running = self._current(name)
            revision, running_digest = running.revision, digest(running.host)
            stored = self._hosts.load(name)
        if stored is None:
            raise HostNotFound(name)
        laws = check.check(stored.host)
        same = stored.revision != revision or digest(stored.host) == running_digest
        findings = () if same else (f"revision {stored.revision}: digests differ",)
        laws.append(Law("the stored host equals the running one", same, findings))
        return Audit(all(law.ok for law in laws), laws), Revision(stored.revision, stored.created_at)

    def ready(self) -> Parts:
        """Whether the service can do its work, by part."""
        return Parts(*self._database_ready(), self.work.health())

    def _database_ready(self) -> tuple[DatabaseHealth, MigrationsHealth]:
        newest = migrate.head()
        try:
            self._try_a_write()
            with self._database.reading() as connection:
                present = migrate.current(connection)
        except StoreFailure as failure:
            return DatabaseHealth(ok=False, error=str(failure)), MigrationsHealth(ok=False, head=newest)
        return DatabaseHealth(ok=True), MigrationsHealth(present == newest, newest, present)

    def _try_a_write(self) -> None:
        """Raises StoreFailure when nothing can be stored: a full or read-only disk, another file at the place."""
        with self._probe:
            if time.monotonic() - self._probed >= PROBE_SECONDS:
                self._database.probe()
                self._probed = time.monotonic()

    # -- inside ------------------------------------------------------------------------------------------

    def _identity(self, name: str, *, wait: bool = True) -> tuple[int, int]:
        identity = self._hosts.identity(name, wait=wait)
        if identity is None:
            self._cache.drop(name)
            raise HostNotFound(name)
        return identity

    @contextmanager
    def _alone(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Alone with a host in this process, and its place in memory kept meanwhile."""
        with self._locks.holding(name, wait=wait), self._cache.using(name):
            yield

    def _current(self, name: str) -> Loaded:
        """The host at the revision that the database has now: from memory, or from its rows."""
        identity = self._identity(name)
        loaded = self._cache.get(name, *identity)
        if loaded is None:
            self._cache.make_room(name, self._hosts.nbytes(identity[0]))
            loaded = self._hosts.load(name)
            if loaded is None:
                raise HostNotFound(name)
            self._cache.put(loaded)
        return loaded

    def _heard(self, name: str) -> None:
        """Some process changed a host; of no name: any may have changed."""
        if name == ANY_HOST:
            self._news.wake_all()
            return
        self._news.announce(name)
        self._news.announce(ANY_HOST)

    def _waited(self, whose: str, look: Callable[[], Found], timeout_seconds: float) -> Found:
        """What ``look`` finds as soon as it finds something: at once, or after a change of that host."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            change = self._news.expect(whose)
            try:
                found = look()
                left = deadline - time.monotonic()
                if found or left <= 0 or self._closed:
                    return found
                change.wait(min(left, self._poll_seconds()))
            finally:
                self._news.forget(whose, change)

    def _poll_seconds(self) -> float:
        """How long to wait before looking for changes of other processes: they are told of where that can be."""
        listening = self._notices is not None and self._notices.listening.is_set()
        return max(LISTENING_POLL_SECONDS if listening else 0.0, self.settings.events_poll_seconds)

    def _tell(self, name: str) -> None:
        self._news.announce(name)
        self._news.announce(ANY_HOST)
        loaded = self._cache.peek(name)
        has_work = loaded is not None and loaded.host.deferred_mode == "auto" and bool(loaded.host.deferred)
        for listener in tuple(self._listeners):
            listener(name, has_work)
