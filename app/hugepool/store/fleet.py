"""Many hosts at once, out of their newest figures and labels: no host is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, delete, insert, select

from hugepool.fs.figures import Figures, unpack
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.events import rfc3339


@dataclass(frozen=True, slots=True)
class Filter:
    """Which hosts: all that every part of it fits.

    Attributes:
        name: a pattern with ``*`` for any letters and ``?`` for one.  kernel: the rule set.
        labels: every one of them.  states: any one of them.
    """

    name: str | None = None
    kernel: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    states: tuple[str, ...] = ()


class Member(NamedTuple):
    """A host in a list.  ``figures`` is None for one that was stored before figures were kept."""

    id: int
    name: str
    kernel: str
    revision: int
    created_at: str
    changed_at: str | None
    figures: Figures | None
    labels: dict[str, str]


def members(database: Database, which: Filter, after: str | None, limit: int) -> list[Member]:
    """Up to ``limit`` hosts by name, behind the name ``after``; ``which.states`` is left to the caller."""
    h, y = t.hosts.c, t.history.c
    newest = and_(y.host_id == h.id, y.revision == h.revision)
    query: Select[Any] = (
        select(h.id, h.name, h.kernel, h.revision, h.created_at, y.at_ns, y.figures)
        .select_from(t.hosts.outerjoin(t.history, newest))
        .order_by(h.name)
        .limit(limit)
    )
    query = _narrowed(query, which)
    if after is not None:
        query = query.where(h.name > after)
    with database.reading() as connection:
        found = connection.execute(query).all()
        labels = labels_of(connection, [row.id for row in found])
    return [
        Member(
            row.id,
            row.name,
            row.kernel,
            row.revision,
            row.created_at,
            None if row.at_ns is None else rfc3339(row.at_ns),
            None if row.figures is None else unpack(row.figures),
            labels.get(row.id, {}),
        )
        for row in found
    ]


def _narrowed(query: Select[Any], which: Filter) -> Select[Any]:
    h = t.hosts.c
    if which.name is not None:  # names have no letter that LIKE knows
        query = query.where(h.name.like(which.name.replace("*", "%").replace("?", "_")))
    if which.kernel is not None:
        query = query.where(h.kernel == which.kernel)
    for key, value in which.labels.items():
        label = select(t.labels.c.host_id).where(t.labels.c.key == key, t.labels.c.value == value)
        query = query.where(h.id.in_(label))
    return query


def labels_of(connection: Connection, host_ids: list[int]) -> dict[int, dict[str, str]]:
    """The labels of some hosts, by host and key."""
    c = t.labels.c
    found: dict[int, dict[str, str]] = {}
    for begin in range(0, len(host_ids), 500):
        query = select(c.host_id, c.key, c.value).where(c.host_id.in_(host_ids[begin : begin + 500]))
        for host_id, key, value in connection.execute(query.order_by(c.key)):
            found.setdefault(host_id, {})[key] = value
    return found


def set_labels(connection: Connection, host_id: int, labels: Mapping[str, str]) -> None:
    """Give a host these labels in place of those it had."""
    connection.execute(delete(t.labels).where(t.labels.c.host_id == host_id))
    if labels:
        rows = [{"host_id": host_id, "key": key, "value": value} for key, value in sorted(labels.items())]
        connection.execute(insert(t.labels), rows)
