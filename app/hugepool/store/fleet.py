"""Many hosts at once, out of their newest figures and labels: no host is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, delete, insert, select

from hugepool.fs.figures import Figures, unpack
from hugepool.store import history, seal
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import Damaged
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
    """Up to ``limit`` hosts by name, behind the name ``after``; ``which.states`` is left to the caller.

    Raises:
        Damaged: the row of one, its newest figures or its labels are not what was written.
    """
    h, y = t.hosts.c, t.history.c
    newest = and_(y.host_id == h.id, y.revision == h.revision)
    query: Select[Any] = (
        seal.HEADS.add_columns(y.at_ns, y.cause, y.figures, y.seal)
        .select_from(t.hosts.outerjoin(t.history, newest))
        .order_by(h.name)
        .limit(limit)
    )
    query = _narrowed(query, which)
    if after is not None:
        query = query.where(h.name > after)
    with database.reading() as connection, seal.readable("the rows of hosts"):
        found = connection.execute(query).all()
        for row in found:
            _check(connection, row)
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


def _check(connection: Connection, row: Row[Any]) -> None:
    """Raises Damaged when what a list shows of a host is not what was written."""
    seal.check_head(row._mapping)  # noqa: SLF001 - so named that no column can have the name
    if row.figures is not None:
        history.check(row._mapping, row.id)  # noqa: SLF001 - the same
    elif history.newest(connection, row.id) is not None:
        raise Damaged(f"the newest revision of host {row.name!r} is missing in its history")


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
    """The labels of some hosts, by host and key.  Raises Damaged."""
    c = t.labels.c
    found: dict[int, dict[str, str]] = {}
    seals: set[tuple[int, int]] = set()
    for begin in range(0, len(host_ids), 500):
        query = select(c.host_id, c.key, c.value, c.seal).where(c.host_id.in_(host_ids[begin : begin + 500]))
        for host_id, key, value, number in connection.execute(query.order_by(c.key)):
            found.setdefault(host_id, {})[key] = value
            if number is not None:
                seals.add((host_id, number))
    for host_id, number in seals:
        if number != seal.of_labels(found[host_id]):
            raise Damaged(f"the labels of host number {host_id} are not what was written")
    return found


def set_labels(connection: Connection, host_id: int, labels: Mapping[str, str]) -> None:
    """Give a host these labels in place of those it had."""
    connection.execute(delete(t.labels).where(t.labels.c.host_id == host_id))
    if labels:
        shared = {"host_id": host_id, "seal": seal.of_labels(labels)}
        rows = [{**shared, "key": key, "value": value} for key, value in sorted(labels.items())]
        connection.execute(insert(t.labels), rows)
