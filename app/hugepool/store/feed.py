"""Changes of all hosts in one order: what lists and pages of many hosts follow.

The rows of hosts that are deleted stay, so that a reader learns of it.  The oldest rows are deleted with each
``_PRUNE_EVERY`` new ones.
"""

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from hugepool.store import postgresql, seal
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.events import rfc3339

_KEPT = 100_000
_PRUNE_EVERY = 1000
_INSERT = insert(t.changes).returning(t.changes.c.seq)


class ChangeOfHost(NamedTuple):
    """One change of one host.  ``seq`` rises over all hosts; ``type`` is the event that made the change."""

    seq: int
    host: str
    revision: int
    time: str
    type: str


def append(
    database: Database,
    connection: Connection,
    host_id: int,
    name: str,
    revision: int,
    now_ns: int,
    cause: str,
) -> None:
    """Write a change behind all others, and tell other servers of it once it is committed."""
    database.in_order(connection)
    row = {"host_id": host_id, "name": name, "revision": revision, "at_ns": now_ns, "cause": cause}
    row["seal"] = seal.of_values(row[name] for name in seal.CHANGE)
    seq = connection.execute(_INSERT, row).scalar_one()
    if seq % _PRUNE_EVERY == 0:
        connection.execute(delete(t.changes).where(t.changes.c.seq <= seq - _KEPT))
    postgresql.announce(connection, name)


def after(database: Database, seq: int, limit: int) -> list[ChangeOfHost]:
    """Up to ``limit`` changes behind number ``seq``, oldest first.  Raises Damaged."""
    query = select(t.changes).where(t.changes.c.seq > seq).order_by(t.changes.c.seq).limit(limit)
    with database.reading() as connection, seal.readable("the changes of all hosts"):
        rows = connection.execute(query).mappings().all()
        for row in rows:
            seal.check_row(row, seal.CHANGE, f"change {row['seq']} of all hosts")
        return [
            ChangeOfHost(row["seq"], row["name"], row["revision"], rfc3339(row["at_ns"]), row["cause"])
            for row in rows
        ]


def newest(database: Database) -> int:
    """Number of the last change; 0 before the first."""
    with database.reading() as connection:
        found: int | None = connection.execute(select(func.max(t.changes.c.seq))).scalar_one()
    return found or 0
