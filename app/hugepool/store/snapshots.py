"""Snapshots of hosts: kept, listed, found again, deleted."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, insert, select

from hugepool.mm.machine.state import Host
from hugepool.store import portable, seal
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.events import rfc3339

Write = Callable[[Connection, int], None]  # into the transaction of a change, for the host of a number
_SEALED = ("name", "revision", "taken_ns", "nr_bytes", "machine")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A machine as it was, which its host can be reset to.

    Attributes:
        revision: the revision of the host whose state it is.
        taken_at: RFC 3339, in UTC.
        stored_bytes: what it takes in the database.
    """

    name: str
    revision: int
    taken_at: str
    stored_bytes: int


def listed(database: Database, host_id: int) -> list[Snapshot]:
    """The snapshots of a host, by name."""
    c = t.snapshots.c
    query = select(c.name, c.revision, c.taken_ns, c.nr_bytes).where(c.host_id == host_id).order_by(c.name)
    with database.reading() as connection:
        return [_shown(row) for row in connection.execute(query).mappings()]


def find(database: Database, host_id: int, name: str) -> tuple[Snapshot, Host] | None:
    """A snapshot, and a machine as it was then.

    Raises:
        Damaged: it is not what was written.
    """
    query = select(t.snapshots).where(t.snapshots.c.host_id == host_id, t.snapshots.c.name == name)
    with database.reading() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    what = f"the snapshot {name!r} of host number {host_id}"
    seal.check_row(row, _SEALED, what)
    with seal.readable(what):
        return _shown(row), portable.unpack(row["machine"])


def keeping(name: str, revision: int, host: Host, now_ns: int) -> tuple[Snapshot, Write]:
    """A snapshot of a host as it is now, and what writes it in place of another one of its name."""
    machine = portable.pack(host)
    row = {
        "name": name,
        "revision": revision,
        "taken_ns": now_ns,
        "nr_bytes": len(machine),
        "machine": machine,
    }
    row["seal"] = seal.of_values(row[column] for column in _SEALED)

    def write(connection: Connection, host_id: int) -> None:
        deleting(name)(connection, host_id)
        connection.execute(insert(t.snapshots), {**row, "host_id": host_id})

    return Snapshot(name, revision, rfc3339(now_ns), len(machine)), write


def deleting(name: str) -> Write:
    """What deletes a snapshot."""

    def write(connection: Connection, host_id: int) -> None:
        c = t.snapshots.c
        connection.execute(delete(t.snapshots).where(c.host_id == host_id, c.name == name))

    return write


def _shown(row: RowMapping) -> Snapshot:
    return Snapshot(row["name"], row["revision"], rfc3339(row["taken_ns"]), row["nr_bytes"])
