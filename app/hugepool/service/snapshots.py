"""Snapshots of hosts, and back to them."""

from typing import Any

from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.views import host_view
from hugepool.mm.views.host_view import Identity
from hugepool.service.changing import Changer
from hugepool.service.reading import revision_of
from hugepool.service.terms import QuotaReached, Reply, Revision, Terms, check_revision
from hugepool.store import snapshots
from hugepool.store.hosts import Loaded
from hugepool.store.snapshots import Snapshot, Write


class NoSnapshot(MMError):
    """The host has no snapshot of this name."""

    def __init__(self, host: str, name: str) -> None:
        super().__init__("ENOENT", f"host {host!r} has no snapshot {name!r}", host=host, snapshot=name)


class Snapshots(Changer):
    """What can be done with snapshots.  Each change is a revision of the host."""

    def snapshots(self, name: str) -> tuple[list[Snapshot], Revision]:
        """The snapshots of a host, by name, and its revision.  Raises HostNotFound."""
        host_id, number = self._identity(name)
        revision = Revision(number, self._hosts.born(host_id))
        return snapshots.listed(self._database, host_id), revision

    def snapshot(self, name: str, which: str) -> tuple[Snapshot, Revision]:
        """One of them.  Raises HostNotFound, NoSnapshot."""
        found, revision = self.snapshots(name)
        return _named(found, name, which), revision

    def keep_snapshot(self, name: str, which: str, terms: Terms) -> Reply:
        """Keep a host as it is now, in place of a snapshot of that name.

        Raises:
            QuotaReached: the host has as many snapshots as it may.  HostNotFound.  PreconditionFailed.
        """
        return self._again(name, terms, lambda: self._keep_snapshot(name, which, terms))

    def _keep_snapshot(self, name: str, which: str, terms: Terms) -> Reply:
        loaded = self._current(name)
        check_revision(revision_of(loaded), terms)
        others = [kept for kept in snapshots.listed(self._database, loaded.host_id) if kept.name != which]
        if len(others) >= self.settings.snapshots:
            raise QuotaReached(f"snapshots of host {name!r}", self.settings.snapshots)
        now_ns = self._clock()
        kept, write = snapshots.keeping(which, loaded.revision, loaded.host, now_ns)
        event = Event.SNAPSHOT_TAKEN, {"snapshot": which, "revision": kept.revision}
        return self._write_beside(loaded, Reply(kept, None, revision_of(loaded), [event]), write, terms)

    def delete_snapshot(self, name: str, which: str, terms: Terms) -> Reply:
        """Delete a snapshot.  Raises HostNotFound, NoSnapshot, PreconditionFailed."""
        return self._again(name, terms, lambda: self._delete_snapshot(name, which, terms))

    def _delete_snapshot(self, name: str, which: str, terms: Terms) -> Reply:
        loaded = self._current(name)
        check_revision(revision_of(loaded), terms)
        _named(snapshots.listed(self._database, loaded.host_id), name, which)
        event = Event.SNAPSHOT_DELETED, {"snapshot": which}
        reply = Reply(None, None, revision_of(loaded), [event])
        return self._write_beside(loaded, reply, snapshots.deleting(which), terms)

    def _write_beside(self, loaded: Loaded, reply: Reply, write: Write, terms: Terms) -> Reply:
        """Keep what changes nothing of the machine, as the host's next revision."""
        if not terms.dry_run:
            change = self._change(reply, terms, self._clock())
            change.beside = write
            self._hosts.save(loaded, change)
            reply.revision = revision_of(loaded)
        return reply

    def reset(self, name: str, which: str, terms: Terms) -> Reply:
        """Make a host again what it was in a snapshot, as its next revision; its console and history go on.

        Raises:
            HostNotFound, NoSnapshot, PreconditionFailed.  Damaged: the snapshot is not what was written.
        """
        return self._again(name, terms, lambda: self._reset(name, which, terms))

    def _reset(self, name: str, which: str, terms: Terms) -> Reply:
        before = self._current(name)
        check_revision(revision_of(before), terms)
        self._cache.make_room(name, 2 * before.nbytes)  # the same machine once more
        found = snapshots.find(self._database, before.host_id, which)
        if found is None:
            raise NoSnapshot(name, which[:80])
        kept, host = found
        number = before.revision if terms.dry_run else before.revision + 1
        data: dict[str, Any] = {"snapshot": which, "revision": kept.revision}
        shown = host_view.host(host, Identity(name, number, before.created_at))
        reply = Reply(shown, None, Revision(number, before.created_at), [(Event.HOST_RESET, data)])
        if not terms.dry_run:
            change = self._change(reply, terms, self._clock())
            self._cache.put(self._hosts.replace(before, host, change))
        return reply


def _named(found: list[Snapshot], host: str, which: str) -> Snapshot:
    kept = {each.name: each for each in found}.get(which)
    if kept is None:
        raise NoSnapshot(host, which[:80])
    return kept
