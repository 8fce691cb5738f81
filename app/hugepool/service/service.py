"""THE ONE ROAD: load host → apply command → save what changed → answer.

A change is durable before its answer leaves, or has not happened.  The engine computes on the host kept in
memory, outside of any transaction; then one short transaction, guarded by the revision the host had, writes
the changed rows, the events and the answer for the Idempotency-Key.  Whoever loses the race loads the host
again and applies again.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from hugepool.mm.boot.image import MachineImage
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.views.host_view import Identity
from hugepool.service.reading import revision_of
from hugepool.service.snapshots import Snapshots
from hugepool.service.sources import (
    Copied,
    Created,
    ForkOf,
    InState,
    Made,
    Prepared,
    Several,
    Source,
    bytes_of,
    make,
    make_at,
)
from hugepool.service.terms import (
    HostNotFound,
    Reply,
    Revision,
    Terms,
    check_caller,
    check_revision,
)
from hugepool.store import events
from hugepool.store.fleet import Filter
from hugepool.store.hosts import Change, NewHost
from hugepool.whatif.states import make as make_state

T = TypeVar("T")


class Service(Snapshots):
    """All that callers can ask of hugepool.  Methods block, and may be called from any thread.

    Raised by any of them: MMError (a refusal; nothing was kept), Busy (try again later), StoreFailure.  By those that
    change a host: Forbidden.

    Idempotency-Keys: an answer is kept once the engine was asked, be it a success or a refusal, and given
    again for 24 h whatever happens to the host meanwhile.  What never got so far (malformed input, no such
    host, another revision, a busy or failing database) is not kept: the same key may be tried again.
    Dry runs ignore keys.
    """

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
        check_caller(name, terms)
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
        check_revision(revision_of(before), terms)
        self._cache.make_room(name, before.nbytes + bytes_of(image))
        call = Call(now_ns=self._clock())
        host = make(image, call)
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
        source: Prepared,
        terms: Terms,
        view: Callable[[Host, Identity], Any] | None,
        labels: Mapping[str, str] | None,
        taken_ns: int | None,
    ) -> Reply:
        if self._hosts.identity(name) is not None:
            raise MMError("EEXIST", f"there is a host {name!r} already", host=name)
        check_revision(Revision(0), terms)
        self._hosts.check_quota(self.settings.hosts)
        self._cache.make_room(name, bytes_of(source))
        call = Call(now_ns=self._clock())
        host = make(source, call)
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
            check_caller(name, terms)
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
        self._cache.make_room(names[0], sum(map(bytes_of, sources)))
        reply, now_ns = Reply(Created(len(names), names), None, 0), self._clock()
        made = []
        for each, source in zip(wanted, sources, strict=True):
            call = Call(now_ns=now_ns)
            host = make_at(each.where, source, call)
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
        check_revision(revision_of(loaded), terms)
        now_ns = self._clock()
        host = fork(loaded.host) if terms.dry_run else loaded.host
        try:
            outcome = apply(host, command, now_ns)
            result = view(host, outcome.result) if view else outcome.result
            error = None if outcome.error is None else outcome.error.data()
            reply = Reply(result, error, revision_of(loaded), outcome.events)
            if not terms.dry_run:
                self._hosts.save(loaded, self._change(reply, terms, now_ns))
                self._cache.put(loaded)
        except BaseException as error:
            refused = isinstance(error, MMError) and self._hosts.untouched(loaded)
            if not (terms.dry_run or refused):
                self._cache.drop(name)
            raise
        reply.revision = revision_of(loaded)
        return reply

    def set_labels(self, name: str, labels: Mapping[str, str], terms: Terms) -> Reply:
        """Give a host these labels in place of those it had; that makes a revision.

        Raises HostNotFound, PreconditionFailed.
        """
        return self._again(name, terms, lambda: self._set_labels(name, labels, terms))

    def _set_labels(self, name: str, labels: Mapping[str, str], terms: Terms) -> Reply:
        loaded = self._current(name)
        check_revision(revision_of(loaded), terms)
        reply = Reply({"name": name, "labels": dict(labels)}, None, revision_of(loaded))
        if terms.dry_run:
            return reply
        reply.events.append((Event.LABELS_SET, {"labels": dict(labels)}))
        change = self._change(reply, terms, self._clock())
        change.labels = labels
        self._hosts.save(loaded, change)
        reply.revision = revision_of(loaded)
        return reply

    def delete(self, name: str, terms: Terms) -> Reply:
        """Delete a host and its history.  Raises HostNotFound, PreconditionFailed."""
        return self._again(name, terms, lambda: self._delete(name, terms))

    def _delete(self, name: str, terms: Terms) -> Reply:
        host_id, number = self._identity(name)
        revision = Revision(number, self._hosts.born(host_id))
        check_revision(revision, terms)
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
            check_caller(name, terms)
        for name in names if not terms.dry_run else ():
            with suppress(HostNotFound):
                self.delete(name, Terms(caller=terms.caller))
        return len(names)

    # -- inside ------------------------------------------------------------------------------------------

    def _begin(self, source: Source) -> Prepared:
        if isinstance(source, ForkOf):
            return self._copy(source.name)
        if isinstance(source, InState):
            return Made(source.name, *make_state(source.name, source.spec))
        return source

    def _copy(self, name: str) -> Copied:
        host, revision = self.read(name, fork)
        lines = self.console(name)
        return Copied(name, revision, host, [(Event(line.type), line.data) for line in lines])
