"""THE ONE ROAD: load host → apply command → save what changed → answer.

A change is durable before its answer leaves, or has not happened.  The engine computes on the host kept in
memory, outside of any transaction; then one short transaction, guarded by the revision the host had, writes
the changed rows, the events and the answer for the Idempotency-Key.  Whoever loses the race loads the host
again and applies again.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from hugepool.access import ANYBODY, Caller
from hugepool.forms.bodies import SpecBody, StateName
from hugepool.fs.figures import figures, states
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.boot.spec import HostSpec
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGE_SIZE
from hugepool.mm.views import check
from hugepool.mm.views.check import Audit, Law
from hugepool.mm.views.history import EventRow
from hugepool.mm.views.host_view import HostRow, Identity
from hugepool.settings import Settings
from hugepool.store import check as check_store
from hugepool.store import events, feed, fleet, history, idempotency, migrate
from hugepool.store.cache import HostCache, HostLocks
from hugepool.store.claims import WorkQueue
from hugepool.store.engine import Database
from hugepool.store.errors import Busy, Damaged, HostsFull, KeyTaken, StaleRevision, StoreFailure, WouldWait
from hugepool.store.events import rfc3339
from hugepool.store.feed import ChangeOfHost
from hugepool.store.fleet import Filter, Member
from hugepool.store.health import DatabaseHealth, MigrationsHealth, Parts
from hugepool.store.history import Moment
from hugepool.store.hosts import Change, HostStore, Loaded, NewHost, host_bytes, map_bytes
from hugepool.store.housekeeping import Housekeeping
from hugepool.store.idempotency import Stored
from hugepool.store.news import News
from hugepool.store.postgresql import Notices
from hugepool.whatif.states import make as make_state

__all__ = [
    "Busy",
    "ChangeOfHost",
    "Created",
    "Damaged",
    "Filter",
    "Forbidden",
    "ForkOf",
    "HostNotFound",
    "Idempotency",
    "IdempotencyMismatch",
    "InState",
    "Member",
    "Moment",
    "Parts",
    "PreconditionFailed",
    "QuotaReached",
    "Reply",
    "Revision",
    "Service",
    "Several",
    "StoreFailure",
    "Terms",
    "WouldWait",
    "rfc3339",
]  # fmt: skip

T = TypeVar("T")
Events = list[EventRow]
HostRows = list[HostRow]
Listener = Callable[[str, bool], None]  # the host's name; whether it has work for the worker

ATTEMPTS = 50  # races lost in a row before a request is refused as busy
HOUR_NS = 3600 * 1_000_000_000
MAX_DMESG_LINES = 10_000
PAGE_OF_MEMBERS = 1000
LISTENING_POLL_SECONDS = 10.0
ANY_HOST = ""  # who waits for it is woken by every change
PROBE_SECONDS = (
    1.0  # a successful look at the database is good for so long: who asks for health writes nothing else
)


class Revision(int):
    """A revision of a host.  ``born``: when the host was made, which tells it from a later one of its name."""

    born: str

    def __new__(cls, number: int, born: str = "") -> "Revision":
        """The number, with what else it is about."""
        made = super().__new__(cls, number)
        made.born = born
        return made

    @property
    def tag(self) -> str:
        """Other text for every other revision of any host that ever had the name."""
        number = int(self)
        return (
            f"{number}-{blake2b(self.born.encode(), digest_size=4).hexdigest()}" if self.born else str(number)
        )


@dataclass(frozen=True, slots=True)
class ForkOf:
    """A new host that begins as a copy of another."""

    name: str


@dataclass(frozen=True, slots=True)
class Several:
    """New hosts that are all made of one machine.

    Attributes:
        names: none twice.  labels: those of each.
        where: the place in the question, for refusals.
    """

    names: Sequence[str]
    source: HostSpec | MachineImage | ForkOf
    labels: Mapping[str, str]
    where: str


@dataclass(frozen=True, slots=True)
class Created:
    """Hosts that were made: how many, and their names in order."""

    created: int
    hosts: list[str]


@dataclass(frozen=True, slots=True)
class InState:
    """A new host in a state of ``whatif.states``, on the machine that it is shown on or on another."""

    name: StateName
    spec: SpecBody | None = None


Source = HostSpec | MachineImage | ForkOf | InState


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An Idempotency-Key with the hash of method, path and body it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How a change is to be made, and by whom.

    ``dry_run`` stores nothing; ``if_match`` is the revision it must meet, its number or its tag; the events name
    the ``caller``.
    """

    dry_run: bool = False
    if_match: int | str | None = None
    idempotency: Idempotency | None = None
    caller: Caller = ANYBODY


@dataclass(slots=True)
class Reply:
    """The answer to a change.

    Attributes:
        result: what was done, as the engine answers it; as plain data when it is replayed.  Also present with an
            error whose changes are kept.
        error: errno, detail, reason, facts of a refusal, or None.
        revision: after the change.
        replayed: taken from the idempotency store.
    """

    result: Any
    error: dict[str, Any] | None
    revision: int
    events: list[Occurrence] = field(default_factory=list)
    replayed: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The result as plain data; empty when there is none."""
        return to_jsonable_python(self.result) or {}


class HostNotFound(MMError):
    """No host of this name."""

    def __init__(self, name: str) -> None:
        super().__init__("ENOENT", f"no host {name!r}", host=name)


class QuotaReached(MMError):
    """The service keeps no more of something; nothing changed."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(
            "EDQUOT",
            f"there are {limit} {what} already, which is the limit",
            reason=Reason.QUOTA,
            limit=limit,
        )


class PreconditionFailed(Exception):
    """The host is not of the revision that the caller expects; nothing changed."""

    def __init__(self, expected: int | str, revision: Revision) -> None:
        super().__init__(f"the host is at revision {revision:d}, not at the one that If-Match names")
        self.revision = revision
        self.facts = {"revision": int(revision), "expected": expected}


class Forbidden(Exception):
    """The caller may not change the host; nothing changed."""

    def __init__(self, caller: Caller, host: str) -> None:
        super().__init__(f"{caller.name} may not change host {host!r}")
        self.caller, self.host = caller, host


class IdempotencyMismatch(Exception):
    """The Idempotency-Key came with another request before."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} came with another request before: use a new key for a new request")


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copied host, where it is from, and the console lines that come with it."""

    origin: str
    revision: int
    host: Host
    console: list[Occurrence]


@dataclass(frozen=True, slots=True)
class _Made:
    """A host in a state, and what its console printed on the way there."""

    state: str
    host: Host
    console: list[str]


_Source = HostSpec | MachineImage | _Copy | _Made


def _make(source: _Source, call: Call) -> Host:
    """A new host; its first events go into ``call``.  Raises BadInput for an impossible machine."""
    if isinstance(source, _Copy):
        call.events.extend(source.console)
        call.emit(Event.HOST_FORKED, origin=source.origin, revision=source.revision)
        return source.host
    if isinstance(source, MachineImage):
        return restore_machine(source, call)
    if isinstance(source, _Made):
        call.emit(
            Event.HOST_BOOTED, kernel=source.host.kernel, cmdline=source.host.cmdline, state=source.state
        )
        for line in source.console:
            call.printk(line)
        return source.host
    call.emit(Event.HOST_BOOTED, kernel=source.kernel, cmdline=source.cmdline)
    return boot(source, call)


def _make_at(where: str, source: _Source, call: Call) -> Host:
    """The same; what is wrong with the machine names its place in the question."""
    try:
        return _make(source, call)
    except BadInput as error:
        raise BadInput(error.message, where=f"{where}.{error.where}" if error.where else where) from None


def _bytes_of(source: _Source) -> int:
    """About how much memory a host takes, in bytes."""
    if isinstance(source, _Copy | _Made):
        return host_bytes(source.host)
    if isinstance(source, MachineImage):
        return map_bytes(source.map_pages)
    return map_bytes(sum(node.memory_bytes for node in source.nodes) // PAGE_SIZE)


def _is_in(member: Member, wanted: Collection[str]) -> bool:
    """Whether a host is in any of the wanted states; in none wanted, it is."""
    return not wanted or (member.figures is not None and bool(set(states(member.figures)) & set(wanted)))


def _check_revision(revision: Revision, terms: Terms) -> None:
    if terms.if_match is not None and str(terms.if_match) not in {revision.tag, str(int(revision))}:
        raise PreconditionFailed(terms.if_match, revision)


def _revision(loaded: Loaded) -> Revision:
    return Revision(loaded.revision, loaded.created_at)


def _check_caller(name: str, terms: Terms) -> None:
    if not (terms.dry_run or terms.caller.may_change(name)):
        raise Forbidden(terms.caller, name)


class Service:
    """All that callers can ask of hugepool.  Methods block, and may be called from any thread.

    Raised by any of them: MMError (a refusal; nothing was kept), Busy (try again later), StoreFailure.  By those that
    change a host: Forbidden.

    Idempotency-Keys: an answer is kept once the engine was asked, be it a success or a refusal, and given
    again for 24 h whatever happens to the host meanwhile.  What never got so far (malformed input, no such
    host, another revision, a busy or failing database) is not kept: the same key may be tried again.
    Dry runs ignore keys.
    """

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

    # -- changing ----------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        source: Source,
        terms: Terms,
        view: Callable[[Host, Identity], Any] | None = None,
        labels: Mapping[str, str] | None = None,
        taken_ns: int | None = None,
    ) -> Reply:
        """Boot, restore or copy a machine and store it at revision 1 (a dry run answers revision 0).

        ``view`` makes the result: by default there is none.  ``taken_ns``: when the machine was so, for the history.

        Raises:
            MMError: EEXIST name taken; EINVAL impossible machine.  HostNotFound: nothing to copy.
            Forbidden: the caller may not make a host of this name.
        """
        _check_caller(name, terms)
        replayed = self._replay(terms)
        if replayed is not None:
            return replayed
        origin = self._begin(source)
        return self._again(name, terms, lambda: self._create(name, origin, terms, view, labels, taken_ns))

    def follow(
        self,
        name: str,
        image: MachineImage,
        terms: Terms,
        view: Callable[[Host, Identity], Any],
        taken_ns: int | None = None,
    ) -> Reply:
        """A later look at a real machine, as the next revision of its host; the first one makes the host.

        Raises:
            MMError: EINVAL impossible machine.  PreconditionFailed.
            Forbidden: the caller may not change this host.
        """
        return self._again(name, terms, lambda: self._follow(name, image, terms, view, taken_ns))

    def _follow(
        self,
        name: str,
        image: MachineImage,
        terms: Terms,
        view: Callable[[Host, Identity], Any],
        taken_ns: int | None,
    ) -> Reply:
        if self._hosts.identity(name) is None:
            return self._create(name, image, terms, view, None, taken_ns)
        before = self._current(name)
        _check_revision(Revision(before.revision, before.created_at), terms)
        self._cache.make_room(name, before.nbytes + _bytes_of(image))
        call = Call(now_ns=self._clock())
        host = _make(image, call)
        revision = before.revision if terms.dry_run else before.revision + 1
        identity = Identity(name, revision, before.created_at)
        reply = Reply(view(host, identity), None, Revision(revision, before.created_at), call.events)
        if not terms.dry_run:
            change = self._change(reply, terms, call.now_ns)
            change.taken_ns = taken_ns
            self._cache.put(self._hosts.replace(before, host, change))
        return reply

    def _create(
        self,
        name: str,
        source: _Source,
        terms: Terms,
        view: Callable[[Host, Identity], Any] | None,
        labels: Mapping[str, str] | None,
        taken_ns: int | None,
    ) -> Reply:
        if self._hosts.identity(name) is not None:
            raise MMError("EEXIST", f"there is a host {name!r} already", host=name)
        _check_revision(Revision(0), terms)
        self._hosts.check_quota(self.settings.hosts)
        self._cache.make_room(name, _bytes_of(source))
        call = Call(now_ns=self._clock())
        host = _make(source, call)
        identity = (
            Identity(name, 0, None) if terms.dry_run else Identity(name, 1, events.rfc3339(call.now_ns))
        )
        revision = Revision(identity.revision, identity.created_at or "")
        reply = Reply(view(host, identity) if view else None, None, revision, call.events)
        if not terms.dry_run:
            change = self._change(reply, terms, call.now_ns)
            change.labels, change.taken_ns = labels, taken_ns
            self._cache.put(self._hosts.create(name, host, change, self.settings.hosts))
        return reply

    def create_all(self, wanted: Sequence[Several], terms: Terms) -> Reply:
        """Make many hosts, all or none; each machine is booted once, whatever the number of its hosts.

        Raises:
            MMError: EEXIST a name is taken; EINVAL impossible machine; EDQUOT there would be too many hosts.
            HostNotFound: nothing to copy.  Forbidden: the caller may not make one of them.
        """
        names = [name for each in wanted for name in each.names]
        for name in names:
            _check_caller(name, terms)
        reply = self._again(names[0], terms, lambda: self._create_all(wanted, names, terms))
        for name in names[1:] if not (terms.dry_run or reply.replayed) else ():
            self._tell(name)
        return reply

    def _create_all(self, wanted: Sequence[Several], names: list[str], terms: Terms) -> Reply:
        taken = [name for name in names if self._hosts.identity(name) is not None]
        if taken:
            detail = f"there is a host {taken[0]!r} already; {len(taken)} of {len(names)} names are taken"
            raise MMError("EEXIST", detail, host=taken[0], taken=len(taken))
        self._hosts.check_quota(self.settings.hosts, len(names))
        sources = [self._begin(each.source) for each in wanted]
        self._cache.make_room(names[0], sum(map(_bytes_of, sources)))
        reply, now_ns = Reply(Created(len(names), names), None, 0), self._clock()
        made = []
        for each, source in zip(wanted, sources, strict=True):
            call = Call(now_ns=now_ns)
            host = _make_at(each.where, source, call)
            change = Change(now_ns, call.events, terms.caller.name, labels=each.labels)
            made.append(NewHost(each.names, host, change))
        if not terms.dry_run:
            made[0].change.answer = self._change(reply, terms, now_ns).answer
            self._hosts.create_all(made, self.settings.hosts)
        return reply

    def execute(
        self, name: str, command: Command[Any], terms: Terms, view: Callable[[Host, Any], Any] | None = None
    ) -> Reply:
        """Apply one command to a host.

        A refusal that leaves traces is a Reply with error and result, and kept; any other refusal is raised.
        A refusal given again for its key is a Reply with error, without result.
        ``view`` makes the result of the host as the command left it and the engine's result.

        Raises:
            MMError: refused, nothing kept.  HostNotFound.  PreconditionFailed.  IdempotencyMismatch.
            Busy: too many others changed the host meanwhile.
        """
        return self._again(name, terms, lambda: self._execute(name, command, terms, view))

    def _execute(
        self, name: str, command: Command[Any], terms: Terms, view: Callable[[Host, Any], Any] | None
    ) -> Reply:
        loaded = self._current(name)
        _check_revision(_revision(loaded), terms)
        now_ns = self._clock()
        host = fork(loaded.host) if terms.dry_run else loaded.host
        try:
            outcome = apply(host, command, now_ns)
            result = view(host, outcome.result) if view else outcome.result
            error = None if outcome.error is None else outcome.error.data()
            reply = Reply(result, error, _revision(loaded), outcome.events)
            if not terms.dry_run:
                self._hosts.save(loaded, self._change(reply, terms, now_ns))
                self._cache.put(loaded)
        except BaseException as error:
            refused = isinstance(error, MMError) and self._hosts.untouched(loaded)
            if not (terms.dry_run or refused):
                self._cache.drop(name)
            raise
        reply.revision = _revision(loaded)
        return reply

    def set_labels(self, name: str, labels: Mapping[str, str], terms: Terms) -> Reply:
        """Give a host these labels in place of those it had; that makes a revision.

        Raises HostNotFound, PreconditionFailed.
        """
        return self._again(name, terms, lambda: self._set_labels(name, labels, terms))

    def _set_labels(self, name: str, labels: Mapping[str, str], terms: Terms) -> Reply:
        loaded = self._current(name)
        _check_revision(_revision(loaded), terms)
        reply = Reply({"name": name, "labels": dict(labels)}, None, _revision(loaded))
        if terms.dry_run:
            return reply
        reply.events.append((Event.LABELS_SET, {"labels": dict(labels)}))
        change = self._change(reply, terms, self._clock())
        change.labels = labels
        self._hosts.save(loaded, change)
        reply.revision = _revision(loaded)
        return reply

    def delete(self, name: str, terms: Terms) -> Reply:
        """Delete a host and its history.  Raises HostNotFound, PreconditionFailed."""
        return self._again(name, terms, lambda: self._delete(name, terms))

    def _delete(self, name: str, terms: Terms) -> Reply:
        host_id, number = self._identity(name)
        revision = Revision(number, self._hosts.born(host_id))
        _check_revision(revision, terms)
        reply = Reply(None, None, revision)
        if not terms.dry_run:
            self._hosts.delete(host_id, name, revision, self._change(reply, terms, self._clock()))
            self._cache.drop(name)
        return reply

    def delete_all(self, which: Filter, terms: Terms) -> int:
        """Delete all hosts that a filter fits; how many.  A dry run counts them.

        Raises:
            Forbidden: the caller may not change one of them; none is deleted.
        """
        names = [member.name for member in self.all_members(which)]
        for name in names:
            _check_caller(name, terms)
        for name in names if not terms.dry_run else ():
            with suppress(HostNotFound):
                self.delete(name, Terms(caller=terms.caller))
        return len(names)

    def all_members(self, which: Filter) -> Iterator[Member]:
        """Every host that a filter fits, by name; a page of them is read at a time."""
        after: str | None = None
        while True:
            members, after = self.members(which, after, PAGE_OF_MEMBERS)
            yield from members
            if after is None:
                return

    # -- reading -----------------------------------------------------------------------------------------

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
            return fn(loaded.host), _revision(loaded)

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

    def history(self, name: str, after: int = 0, limit: int = 100) -> list[Moment]:
        """The figures of up to ``limit`` revisions behind ``after``, oldest first."""
        host_id, _ = self._identity(name)
        return history.after(self._database, host_id, after, limit)

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

    def nr_hosts(self) -> int:
        """How many hosts there are."""
        return self._hosts.count()

    def _with_figures(self, member: Member) -> Member:
        """A host that was stored before figures were kept is looked at."""
        if member.figures is not None:
            return member
        try:
            found, _ = self.read(member.name, lambda host: figures(host, (), None))
        except HostNotFound:  # deleted meanwhile
            return member
        return member._replace(figures=found)

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
        deadline = time.monotonic() + timeout_seconds
        while True:
            change = self._news.expect(name)
            try:
                if self.last_event(name) > after:
                    return self.events(name, after, limit)
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    return []
                change.wait(min(left, self._poll_seconds()))
            finally:
                self._news.forget(name, change)

    def changes(self, after: int, limit: int = 100) -> list[ChangeOfHost]:
        """Changes of all hosts behind number ``after``, oldest first."""
        return feed.after(self._database, after, limit)

    def newest_change(self) -> int:
        """Number of the last change of any host; 0 before the first."""
        return feed.newest(self._database)

    def wait_changes(self, after: int, timeout_seconds: float, limit: int = 100) -> list[ChangeOfHost]:
        """The same, waiting for the first one; none after ``timeout_seconds``."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            change = self._news.expect(ANY_HOST)
            try:
                found = self.changes(after, limit)
                left = deadline - time.monotonic()
                if found or left <= 0 or self._closed:
                    return found
                change.wait(min(left, self._poll_seconds()))
            finally:
                self._news.forget(ANY_HOST, change)

    def last_event(self, name: str) -> int:
        """Number of the last event of a host.  Raises HostNotFound."""
        number = self._hosts.last_event(name)
        if number is None:
            raise HostNotFound(name)
        return number

    def audit(self, name: str) -> tuple[Audit, int]:
        """Every law held against the host as its rows say it, and that the one in memory is the same."""
        with self._alone(name):
            running = self._current(name)
            stored = self._hosts.load(name)
        if stored is None:
            raise HostNotFound(name)
        laws = check.check(stored.host)
        same = stored.revision != running.revision or digest(stored.host) == digest(running.host)
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

    def list(self, limit: int, cursor: str | None = None) -> tuple[HostRows, str | None]:
        """Hosts by name, and the cursor of the next page."""
        found = self._hosts.page(limit + 1, cursor)
        return found[:limit], found[limit - 1].name if len(found) > limit else None

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` after each change that this process made; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # -- inside ------------------------------------------------------------------------------------------

    def _again(self, name: str, terms: Terms, attempt: Callable[[], Reply]) -> Reply:
        """Alone with the host in this process, until no other process comes in between."""
        _check_caller(name, terms)
        for _ in range(ATTEMPTS):
            try:
                with self._alone(name):
                    reply = self._replay(terms) or self._attempt(name, terms, attempt)
            except (StaleRevision, KeyTaken):
                self._cache.drop(name)
                continue
            if not (terms.dry_run or reply.replayed):
                self._tell(name)
            return reply
        raise Busy(f"host {name!r} is being changed by too many others at once")

    def _attempt(self, name: str, terms: Terms, attempt: Callable[[], Reply]) -> Reply:
        try:
            return attempt()
        except HostsFull as full:
            raise QuotaReached("hosts", full.args[0]) from None
        except (BadInput, HostNotFound):
            raise
        except MMError as refusal:
            if terms.idempotency and not terms.dry_run:
                _, revision = self._hosts.identity(name) or (0, 0)
                change = self._change(Reply(None, refusal.data(), revision), terms, self._clock())
                self._hosts.keep_answer(change)
            raise

    def _replay(self, terms: Terms) -> Reply | None:
        if terms.idempotency is None or terms.dry_run:
            return None
        found = idempotency.find(self._database, terms.idempotency.key, self._clock())
        if found is None:
            return None
        if found.fingerprint != terms.idempotency.fingerprint:
            raise IdempotencyMismatch(found.key)
        kept = dict(found.reply)
        kept["revision"] = Revision(kept["revision"], kept.pop("born", ""))
        return Reply(**kept, replayed=True)

    def _change(self, reply: Reply, terms: Terms, now_ns: int) -> Change:
        if terms.idempotency is None:
            return Change(now_ns, reply.events, terms.caller.name)
        kept = {
            "result": reply.data or None,
            "error": reply.error,
            "revision": int(reply.revision),
            "born": getattr(reply.revision, "born", ""),
            "events": reply.events,
        }
        expires_ns = now_ns + int(self.settings.idempotency_hours * HOUR_NS)
        answer = Stored(terms.idempotency.key, terms.idempotency.fingerprint, kept, expires_ns)
        return Change(now_ns, reply.events, terms.caller.name, answer)

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

    def _begin(self, source: Source) -> _Source:
        if isinstance(source, ForkOf):
            return self._copy(source.name)
        if isinstance(source, InState):
            return _Made(source.name, *make_state(source.name, source.spec))
        return source

    def _copy(self, name: str) -> _Copy:
        host, revision = self.read(name, fork)
        lines = self.console(name)
        return _Copy(name, revision, host, [(Event(line.type), line.data) for line in lines])

    def _heard(self, name: str) -> None:
        """Some process changed a host; of no name: any may have changed."""
        if name == ANY_HOST:
            self._news.wake_all()
            return
        self._news.announce(name)
        self._news.announce(ANY_HOST)

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
