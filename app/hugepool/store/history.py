"""The figures of hosts by revision: written with each change, read for charts and for lists of many hosts."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select

from hugepool.fs.figures import Figures, pack, unpack
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.store import seal
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import Damaged

_PRUNE_EVERY = 256  # revisions: old rows are deleted by many at once
_SIDE_EVENTS = {Event.KERNEL_MESSAGE_PRINTED, Event.VMEMMAP_SPLIT}  # they come with the event that is meant
_OLD = delete(t.history).where(
    t.history.c.host_id == bindparam("whose"), t.history.c.revision <= bindparam("newest")
)

_MOMENTS = select(*(t.history.c[name] for name in (*seal.MOMENT, "seal")))


class Moment(NamedTuple):
    """One revision of a host: when it came, the event that made it, and its packed figures."""

    revision: int
    at_ns: int
    cause: str
    figures: bytes


def append(
    connection: Connection,
    host_id: int,
    revision: int,
    now_ns: int,
    events: Sequence[Occurrence],
    found: Figures,
    *,
    keep: int,
) -> None:
    """Write the figures of a new revision; now and then delete those that are older than the newest ``keep``."""
    row = {"revision": revision, "at_ns": now_ns, "cause": cause_of(events), "figures": pack(found)}
    number = seal.of_values(row[name] for name in seal.MOMENT)
    connection.execute(insert(t.history), {**row, "host_id": host_id, "seal": number})
    if revision % _PRUNE_EVERY == 0 and revision > keep:
        connection.execute(_OLD, {"whose": host_id, "newest": revision - keep})


def cause_of(events: Sequence[Occurrence]) -> str:
    """The event that stands for a change: its last one that is no mere consequence."""
    for event, _data in reversed(events):
        if event not in _SIDE_EVENTS:
            return event
    return events[-1][0] if events else ""


def newest(connection: Connection, host_id: int) -> Figures | None:
    """The figures of the newest revision that has some.  Raises Damaged."""
    query = _MOMENTS.where(t.history.c.host_id == host_id).order_by(t.history.c.revision.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    check(row, host_id)
    return unpack(row["figures"])


def check(row: RowMapping, host_id: int) -> None:
    """Raises Damaged when a moment is not what was written."""
    seal.check_row(row, seal.MOMENT, f"revision {row['revision']} in the history of host number {host_id}")


def after(database: Database, host_id: int, revision: int, limit: int) -> list[Moment]:
    """Up to ``limit`` moments behind a revision, oldest first; those of old revisions may have been removed.

    Raises:
        Damaged: a moment is not what was written, or one is missing between others or at the end.
    """
    c = t.history.c
    query = _MOMENTS.where(c.host_id == host_id, c.revision > revision).order_by(c.revision).limit(limit)
    with database.reading() as connection, seal.readable(f"the history of host number {host_id}"):
        rows = connection.execute(query).mappings().all()
        head = seal.head_of(connection, host_id)
    revisions = [row["revision"] for row in rows]
    if revisions != list(range(revisions[0], revisions[0] + len(rows)) if rows else []):
        raise Damaged(f"revisions of host number {host_id} are missing in its history")
    if head is not None and rows and len(rows) < limit and revisions[-1] != head["revision"]:
        raise Damaged(f"the newest revisions of host number {host_id} are missing in its history")
    for row in rows:
        check(row, host_id)
    return [Moment(*(row[name] for name in seal.MOMENT)) for row in rows]
