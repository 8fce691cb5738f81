"""The figures of hosts by revision: written with each change, read for charts and for lists of many hosts."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from hugepool.fs.figures import Figures, pack, unpack
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.store import tables as t
from hugepool.store.engine import Database

_PRUNE_EVERY = 256  # revisions: old rows are deleted by many at once
_SIDE_EVENTS = {Event.KERNEL_MESSAGE_PRINTED, Event.VMEMMAP_SPLIT}  # they come with the event that is meant
_OLD = delete(t.history).where(
    t.history.c.host_id == bindparam("whose"), t.history.c.revision <= bindparam("newest")
)


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
    row = {"host_id": host_id, "revision": revision, "at_ns": now_ns, "cause": cause_of(events)}
    connection.execute(insert(t.history), {**row, "figures": pack(found)})
    if revision % _PRUNE_EVERY == 0 and revision > keep:
        connection.execute(_OLD, {"whose": host_id, "newest": revision - keep})


def cause_of(events: Sequence[Occurrence]) -> str:
    """The event that stands for a change: its last one that is no mere consequence."""
    for event, _data in reversed(events):
        if event not in _SIDE_EVENTS:
            return event
    return events[-1][0] if events else ""


def newest(connection: Connection, host_id: int) -> Figures | None:
    """The figures of the newest revision that has some."""
    c = t.history.c
    query = select(c.figures).where(c.host_id == host_id).order_by(c.revision.desc()).limit(1)
    packed = connection.execute(query).scalar_one_or_none()
    return None if packed is None else unpack(packed)


def after(database: Database, host_id: int, revision: int, limit: int) -> list[Moment]:
    """Up to ``limit`` moments behind a revision, oldest first."""
    c = t.history.c
    query = (
        select(c.revision, c.at_ns, c.cause, c.figures)
        .where(c.host_id == host_id, c.revision > revision)
        .order_by(c.revision)
        .limit(limit)
    )
    with database.reading() as connection:
        return [Moment(*row) for row in connection.execute(query)]
