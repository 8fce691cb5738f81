"""Whether a database is whole: its file, its tables, what its rows say, and the laws of every host.

A start looks at what costs little (``at_start``); ``hugepool check`` looks at everything (``findings``).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from sqlalchemy import Connection, RowMapping, inspect, select

from hugepool.mm.views import check as laws
from hugepool.settings import Settings
from hugepool.store import events, feed, fleet, history, migrate, seal, snapshots
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import Damaged, StoreFailure
from hugepool.store.hosts import HostStore

START_BYTES = 64 << 20  # a larger file is not read as a whole at a start: 160 MiB take a second
FOREIGN = "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view')"
MANY = 100  # of one kind are listed
PAGE = 1000


class CannotCheck(Exception):
    """There is nothing to look at, or not with this version."""


def existing(settings: Settings) -> Database:
    """The database of the settings, which must be there: to look at one must not make one.

    Raises:
        CannotCheck: there is no file.  StoreFailure: the address cannot be used.
    """
    database = Database(settings)
    if database.path is not None and not database.path.is_file():
        raise CannotCheck(f"there is no database {database.path}")
    return database


def at_start(database: Database) -> None:
    """Raises Damaged when tables or columns are missing, or the file of a small database is not whole."""
    with database.reading() as connection:
        found = [*_schema(connection)]
        if not found and database.nbytes(connection) <= START_BYTES:
            found = [*_integrity(connection, "")]
        elif not found:
            found = [*_integrity(connection, f"({t.hosts.name})")]
    if found:
        raise Damaged(f"the database is damaged: {found[0]}; hugepool check shows all")


def findings(database: Database, progress: Callable[[str], None]) -> Iterator[str]:
    """Everything that is wrong, a sentence each.  Changes nothing; the service may run meanwhile.

    Raises:
        CannotCheck: there is no schema, or not the newest.
        StoreFailure: the database cannot be read at all.
    """
    progress("file")
    with database.reading() as connection:
        broken = [*_integrity(connection, "")]
        yield from broken
        _check_version(connection, broken)
        missing = [*_schema(connection)]
        yield from missing
        if missing:
            return
        yield from _foreign_keys(connection)
        names = connection.execute(select(t.hosts.c.id, t.hosts.c.name).order_by(t.hosts.c.id)).all()
    for host_id, name in names:
        progress(f"host {name}")
        yield from _guarded(f"host {name!r}", _host(database, host_id, name))
    progress("changes")
    yield from _guarded("changes of all hosts", _changes(database))
    progress("stored answers")
    yield from _guarded("stored answers", _answers(database))


def _check_version(connection: Connection, broken: list[str]) -> None:
    try:
        present = migrate.current(connection)
    except Exception as error:
        raise CannotCheck(f"the schema's version cannot be read: {error}") from error
    if present != migrate.head() and not broken:
        wanted = f"this hugepool knows {migrate.head()}"
        raise CannotCheck(
            f"the database has schema {present}, {wanted}: start the service once, which migrates it"
        )


def _guarded(what: str, found: Iterator[str]) -> Iterator[str]:
    """What a part finds; that it cannot be read is a finding as well."""
    try:
        yield from found
    except StoreFailure as failure:
        yield f"{what}: {failure}"


# -- the file and its tables -------------------------------------------------------------------------------


def _integrity(connection: Connection, table: str) -> Iterator[str]:
    if connection.dialect.name != "sqlite":
        return
    for (text,) in connection.exec_driver_sql(f"PRAGMA integrity_check{table}"):
        if text != "ok":
            yield from (f"the file: {line}" for line in text.splitlines() if not line.startswith("***"))


def _schema(connection: Connection) -> Iterator[str]:
    present = inspect(connection)
    tables = set(present.get_table_names())
    for table in t.metadata.sorted_tables:
        if table.name not in tables:
            yield f"there is no table {table.name}"
            continue
        columns = {column["name"] for column in present.get_columns(table.name)}
        yield from (f"there is no column {table.name}.{name}" for name in sorted({*table.c.keys()} - columns))
    if connection.dialect.name == "sqlite":
        yield from (f"there is a {kind} {name}, which is none of hugepool's"
                    for kind, name in connection.exec_driver_sql(FOREIGN))  # fmt: skip


def _foreign_keys(connection: Connection) -> Iterator[str]:
    """Rows without a host, table by table."""
    if connection.dialect.name != "sqlite":
        return
    counts: dict[str, int] = {}
    for table, *_ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        counts[table] = counts.get(table, 0) + 1
    yield from (f"{count} rows of {table} belong to nothing" for table, count in counts.items())


# -- hosts, events, answers --------------------------------------------------------------------------------


def _host(database: Database, host_id: int, name: str) -> Iterator[str]:
    loaded = HostStore(database).load(name)
    if loaded is None:
        yield f"host {name!r} is not found by its name"
        return
    for law in laws.check(loaded.host):
        if not law.ok:
            yield f"host {name!r}: law {law.law}: {'; '.join(law.findings[:5])}"
    yield from _guarded(f"host {name!r}", _events(database, host_id))
    yield from _guarded(f"host {name!r}", _shown(database, host_id))
    for kept in snapshots.listed(database, host_id):
        yield from _guarded(f"host {name!r}", _snapshot(database, host_id, kept.name))


def _snapshot(database: Database, host_id: int, name: str) -> Iterator[str]:
    """A snapshot; that it is not what was written is raised as Damaged."""
    found = snapshots.find(database, host_id, name)
    for law in laws.check(found[1]) if found is not None else ():
        if not law.ok:
            yield f"snapshot {name!r}: law {law.law}: {'; '.join(law.findings[:5])}"


def _events(database: Database, host_id: int) -> Iterator[str]:
    after = 0
    while page := events.after(database, host_id, after, PAGE):
        for before, event in pairwise(page):
            if event.revision < before.revision:
                yield f"event {event.id} has an earlier revision than the one before it"
        after = page[-1].id


def _shown(database: Database, host_id: int) -> Iterator[str]:
    """What lists and charts show of a host; what is wrong with it is raised as Damaged."""
    revision = 0
    while page := history.after(database, host_id, revision, PAGE):
        revision = page[-1].revision
    with database.reading() as connection:
        fleet.labels_of(connection, [host_id])
    yield from ()


def _changes(database: Database) -> Iterator[str]:
    """The changes of all hosts; what is wrong with one is raised as Damaged."""
    seq = 0
    while page := feed.after(database, seq, PAGE):
        seq = page[-1].seq
    yield from ()


def _answers(database: Database) -> Iterator[str]:
    with database.reading() as connection, seal.readable("stored answers"):
        rows = connection.execute(select(t.idempotency_keys)).mappings()
        wrong = [finding for row in rows if (finding := _answer(row)) is not None]
    yield from wrong[:MANY]


def _answer(row: RowMapping) -> str | None:
    try:
        seal.check_row(row, seal.ANSWER, f"the answer stored for the key {str(row['key'])[:80]!a}")
    except Damaged as damaged:
        return str(damaged)
    return None
