"""All that callers can ask of hugepool, on one road.

``Service`` changes hosts, its base ``Reader`` reads and follows them; ``terms`` are how a change is made and answered,
``sources`` what a new host is made of.
"""

from hugepool.service.reading import MAX_DMESG_LINES
from hugepool.service.service import Service
from hugepool.service.sources import Created, ForkOf, InState, Several
from hugepool.service.terms import (
    Forbidden,
    HostNotFound,
    Idempotency,
    IdempotencyMismatch,
    PreconditionFailed,
    QuotaReached,
    Reply,
    Revision,
    Terms,
)
from hugepool.store.errors import Busy, Damaged, StoreFailure, WouldWait
from hugepool.store.events import rfc3339
from hugepool.store.feed import ChangeOfHost
from hugepool.store.fleet import Filter, Member
from hugepool.store.health import Parts
from hugepool.store.history import Moment
from hugepool.store.snapshots import Snapshot

__all__ = [
    "MAX_DMESG_LINES",
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
    "Snapshot",
    "StoreFailure",
    "Terms",
    "WouldWait",
    "rfc3339",
]
