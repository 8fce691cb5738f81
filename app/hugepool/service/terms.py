"""How a change is to be made, how it was answered, and why it was not made."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pydantic_core import to_jsonable_python

from hugepool.access import ANYBODY, Caller
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Occurrence
from hugepool.mm.machine.reasons import Reason


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


def check_revision(revision: Revision, terms: Terms) -> None:
    if terms.if_match is not None and str(terms.if_match) not in {revision.tag, str(int(revision))}:
        raise PreconditionFailed(terms.if_match, revision)


def check_caller(name: str, terms: Terms) -> None:
    if not (terms.dry_run or terms.caller.may_change(name)):
        raise Forbidden(terms.caller, name)
