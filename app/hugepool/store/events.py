"""The history of hosts: numbered 1, 2, 3 ... within each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select

from hugepool.mm.machine.events import Occurrence
from hugepool.mm.views.history import EventRow
from hugepool.store import seal
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import Damaged


def rfc3339(ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 text in UTC, to the microsecond."""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000, tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"


def append(
    connection: Connection,
    host_id: int,
    last_id: int,
    events: Sequence[Occurrence],
    *,
    revision: int,
    now_ns: int,
    by: str | None,
) -> None:
    """Write events behind number ``last_id``; ``by`` names the token that was used, if any."""
    if not events:
        return
    shared = {"revision": revision, "time": rfc3339(now_ns), "made_by": by}
    rows = [
        {**shared, "id": i, "type": type_, "data": data}
        for i, (type_, data) in enumerate(events, last_id + 1)
    ]
    sealed = [
        {**row, "host_id": host_id, "seal": seal.of_values(row[name] for name in seal.EVENT)} for row in rows
    ]
    connection.execute(insert(t.events), sealed)


def after(
    database: Database, host_id: int, number: int, limit: int, kind: str | None = None
) -> list[EventRow]:
    """Up to ``limit`` events behind ``number``, oldest first; of one type only when ``kind`` names it.

    Old events may have been removed, from the first on.

    Raises:
        Damaged: an event is not what was written, or one is missing between others or at the end.
    """
    query = _events(host_id, kind).where(t.events.c.id > number).order_by(t.events.c.id).limit(limit)
    with database.reading() as connection, seal.readable(f"the events of host number {host_id}"):
        rows = connection.execute(query).mappings().all()
        _check_head(connection, host_id, None if kind else (number, limit, rows))
    return _read(host_id, rows)


def newest(database: Database, host_id: int, limit: int, kind: str) -> list[EventRow]:
    """The last ``limit`` events of a type, oldest first.  Raises Damaged."""
    query = _events(host_id, kind).order_by(t.events.c.id.desc()).limit(limit)
    with database.reading() as connection, seal.readable(f"the events of host number {host_id}"):
        rows = connection.execute(query).mappings().all()
        _check_head(connection, host_id, None)
    return _read(host_id, rows[::-1])


def _events(host_id: int, kind: str | None) -> Select[Any]:
    c = t.events.c
    query = select(c.id, c.revision, c.time, c.made_by, c.type, c.data, c.seal).where(c.host_id == host_id)
    return query if kind is None else query.where(c.type == kind)


def _check_head(connection: Connection, host_id: int, page: "Page | None") -> None:
    head = seal.head_of(connection, host_id)
    if head is not None:
        _check_numbers(connection, host_id, head["last_event_id"], page)


def _read(host_id: int, rows: Sequence[RowMapping]) -> list[EventRow]:
    for row in rows:
        seal.check_row(row, seal.EVENT, f"event {row['id']} of host number {host_id}")
    return [
        EventRow(row["id"], row["revision"], row["time"], row["made_by"], row["type"], row["data"])
        for row in rows
    ]


Page = tuple[int, int, Sequence[RowMapping]]


def _check_numbers(connection: Connection, host_id: int, newest: int, page: Page | None) -> None:
    """That events follow each other from the first there is to number ``newest``.

    ``page``: the number that was asked behind, how many were asked for, and what was found.  None: count all.

    Raises:
        Damaged: some are missing.
    """
    if page is not None and [row["id"] for row in page[2]] == _following(page[0], page[1]):
        return  # in the middle of a long history
    c = t.events.c
    mine = c.host_id == host_id
    first, last = (connection.execute(select(one(c.id)).where(mine)).scalar() for one in (func.min, func.max))
    if first is None or last is None:
        return
    if page is None:
        whole = connection.execute(select(func.count()).where(mine)).scalar() == last - first + 1
    else:
        after, _, rows = page
        whole = [row["id"] for row in rows] == _following(max(first - 1, after), len(rows))
    if last != newest or not whole:
        raise Damaged(f"events of host number {host_id} are missing")


def _following(number: int, count: int) -> list[int]:
    return list(range(number + 1, number + 1 + count))
