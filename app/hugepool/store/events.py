"""The history of hosts: numbered 1, 2, 3 ... within each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from hugepool.mm.machine.events import Occurrence
from hugepool.store import tables as t
from hugepool.store.engine import Database


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
    shared = {"host_id": host_id, "revision": revision, "time": rfc3339(now_ns), "made_by": by}
    numbered = enumerate(events, last_id + 1)
    connection.execute(
        insert(t.events), [{**shared, "id": i, "type": type_, "data": data} for i, (type_, data) in numbered]
    )


def after(
    database: Database, host_id: int, number: int, limit: int, kind: str | None = None
) -> list[dict[str, Any]]:
    """Up to ``limit`` events behind ``number``, oldest first; of one type only when ``kind`` names it."""
    c = t.events.c
    columns = (c.id, c.revision, c.time, c.made_by.label("by"), c.type, c.data)
    query = select(*columns).where(c.host_id == host_id, c.id > number)
    if kind is not None:
        query = query.where(c.type == kind)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query.order_by(c.id).limit(limit)).mappings()]
