"""How any change comes about: alone with its host, again after a lost race, answered once for its key."""

from collections.abc import Callable

from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.service.reading import Reader
from hugepool.service.terms import (
    HostNotFound,
    IdempotencyMismatch,
    QuotaReached,
    Reply,
    Revision,
    Terms,
    check_caller,
)
from hugepool.store import idempotency
from hugepool.store.errors import Busy, HostsFull, KeyTaken, StaleRevision
from hugepool.store.hosts import Change
from hugepool.store.idempotency import Stored

ATTEMPTS = 50  # races lost in a row before a request is refused as busy
HOUR_NS = 3600 * 1_000_000_000


class Changer(Reader):
    """What all changes have in common."""

    def _again(self, name: str, terms: Terms, attempt: Callable[[], Reply]) -> Reply:
        """Alone with the host in this process, until no other process comes in between."""
        check_caller(name, terms)
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
