"""Hosts in the database: create, load, save what changed, delete, list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy
from sqlalchemy import (
    Connection,
    Delete,
    Table,
    Update,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from hugepool.fs.figures import Figures, figures
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.mm.machine.mmzone import SectionState
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, SECTION_PAGES
from hugepool.mm.views.host_view import HostRow
from hugepool.store import events as log
from hugepool.store import feed, fleet, history, idempotency, loading, rows, seal
from hugepool.store import tables as t
from hugepool.store.engine import Database, insert_rows
from hugepool.store.errors import Damaged, HostsFull, StaleRevision
from hugepool.store.huge_rows import Row
from hugepool.store.idempotency import Stored
from hugepool.store.seal import HostSeal
from hugepool.store.sections import COLUMNS, NR_PLAIN, STATES, encode, stored_sections

MANY = 1 << 62
LISTED = ("name", "kernel", "cmdline", "revision", "created_at")
Sections = npt.NDArray[np.int64]
Encoded = list[tuple[Any, ...]]
_ALL_NULL = (None,) * (len(COLUMNS) - NR_PLAIN)
BYTES_A_HOST = 300_000  # measured on hosts just booted, of 1 GiB to 16 TiB
BYTES_A_BLOCK = 24
BYTES_A_MAPPED_PAGE = 150  # of a dictionary's or a set's entry
_LAST_EVENT = select(t.hosts.c.last_event_id).where(t.hosts.c.name == bindparam("name"))
_BORN = select(t.hosts.c.created_at).where(t.hosts.c.id == bindparam("host_id"))
_IDENTITY = select(t.hosts.c.id, t.hosts.c.revision).where(t.hosts.c.name == bindparam("name"))
_BLOCK_COLUMNS = ("host_id", "block", "state", "node", "start_pfn", "nr_pages")


@dataclass(slots=True)
class Loaded:
    """A host in memory, equal to its rows at ``revision``.

    ``saved``: its small rows as written; ``seal``: the sum over all its rows; ``figures``: those of its newest
    revision; ``shown``: what views made of it, each with the revision they saw.
    """

    host_id: int
    name: str
    revision: int
    last_event_id: int
    created_at: str
    host: Host
    saved: rows.Snapshot
    seal: HostSeal
    figures: Figures | None = None
    shown: dict[Any, tuple[int, Any]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return host_bytes(self.host)


def host_bytes(host: Host) -> int:
    """About how much memory a host takes, in bytes: its arrays, and what is kept page by page."""
    arrays = [
        a for part in (host.mem, host.mem.order) for a in vars(part).values() if isinstance(a, np.ndarray)
    ]
    maps = [m for task in host.tasks.values() for m in task.maps.values()]
    pages = sum(len(m.pages) + len(m.file_pages) + len(m.gone) for m in maps)
    pages += sum(len(file.pages) for file in host.files.values()) + len(host.page_charges)
    return sum(array.nbytes for array in arrays) + BYTES_A_MAPPED_PAGE * pages


def map_bytes(pages: int) -> int:
    """About how much memory the arrays of a machine of some pages of 4 KiB take, in bytes."""
    return BYTES_A_HOST + pages // PAGEBLOCK_PAGES * BYTES_A_BLOCK


@dataclass(slots=True)
class Change:
    """What is to be written with a host: when it happened, its events, who did it, the answer to keep for a key.

    ``labels``: those it has from now on; None leaves them as they are.  ``taken_ns``: when what it shows was so, for
    the history; None for now.  ``beside``: writes what else belongs to the host of a number.
    """

    now_ns: int
    events: Sequence[Occurrence] = field(default_factory=list)
    by: str | None = None
    answer: Stored | None = None
    labels: Mapping[str, str] | None = None
    taken_ns: int | None = None
    beside: Callable[[Connection, int], None] | None = None


@dataclass(frozen=True, slots=True)
class NewHost:
    """A machine to store once under each of the names; ``change.answer`` is kept once."""

    names: Sequence[str]
    host: Host
    change: Change


class _Template:
    """What the rows of all hosts of an entry are made of."""

    def __init__(self, entry: NewHost) -> None:
        self.entry = entry
        mem = entry.host.mem
        self.saved, self.sections = rows.snapshot(entry.host), stored_sections(mem)
        self.encoded = encode(mem, 0, self.sections)  # the number of the host is put in later
        self.seal = HostSeal(mem.nr_sections)
        self.seal.change_rows({}, self.saved)
        self.seal.set_sections(self.encoded)
        self.figures = figures(entry.host, entry.change.events, None)

    def settle(self) -> None:
        """All is stored."""
        rows.settle(self.saved, {})
        self.entry.host.mem.dirty[:] = False


class HostStore:
    """The rows of hosts.  Every method is one transaction."""

    def __init__(self, database: Database, history_rows: int = MANY) -> None:
        self._database = database
        self._history_rows = history_rows

    # -- reading -----------------------------------------------------------------------------------------

    def identity(self, name: str, *, wait: bool = True) -> tuple[int, int] | None:
        """(id, revision) of a host, or None.  Without ``wait``: WouldWait where the database is not quick."""
        first = self._database.first if wait else self._database.first_at_hand
        row = first(_IDENTITY, name=name)
        return None if row is None else (row[0], row[1])

    def born(self, host_id: int) -> str:
        """When a host was made; nothing for one that is gone."""
        row = self._database.first(_BORN, host_id=host_id)
        return "" if row is None else str(row[0])

    def last_event(self, name: str) -> int | None:
        """Number of the last event of a host, or None without such a host."""
        row = self._database.first(_LAST_EVENT, name=name)
        return None if row is None else row[0]

    def nbytes(self, host_id: int) -> int:
        """About how much memory a host will take once it is loaded, in bytes.  Raises Damaged."""
        with self._database.reading() as connection:
            row = seal.head_of(connection, host_id)
        return 0 if row is None else map_bytes(row["nr_sections"] * SECTION_PAGES)

    def count(self) -> int:
        """How many hosts there are."""
        with self._database.reading() as connection:
            return _count(connection)

    def check_quota(self, most: int, more: int = 1) -> None:
        """Raises HostsFull when there would be over ``most`` hosts with so many more."""
        with self._database.reading() as connection:
            _check_quota(connection, most, more)

    def load(self, name: str) -> Loaded | None:
        """A host from its rows, or None.

        Raises:
            Damaged: the rows are not what was written.
        """
        with self._database.reading() as connection, seal.readable(f"the rows of host {name!r}"):
            head = connection.execute(select(t.hosts).where(t.hosts.c.name == name)).one_or_none()
            if head is None:
                return None
            seal.check_head(head._mapping)  # noqa: SLF001 - so named that no column can have the name
            found = loading.sections(connection, head.id)
            host = loading.load(loading.stored(connection, head.id), head, found)
            saved, newest = rows.snapshot(host), history.newest(connection, head.id)
        loaded = _loaded(head, host, saved, found)
        loaded.figures = newest
        return loaded

    def page(self, limit: int, after: str | None) -> list[HostRow]:
        """Up to ``limit`` hosts by name, behind the name ``after``.  Raises Damaged."""
        query = seal.HEADS.order_by(t.hosts.c.name).limit(limit)
        if after is not None:
            query = query.where(t.hosts.c.name > after)
        with self._database.reading() as connection:
            found = connection.execute(query).mappings().all()
        for row in found:
            seal.check_head(row)
        return [HostRow(**{name: row[name] for name in LISTED}) for row in found]

    # -- writing -----------------------------------------------------------------------------------------

    def create(self, name: str, host: Host, change: Change, most: int = MANY) -> Loaded:
        """Store a new host at revision 1.

        Raises:
            HostsFull: there are ``most`` hosts.
            StaleRevision: a host of this name exists.  KeyTaken: another answer was stored for the key.
        """
        return self.create_all([NewHost([name], host, change)], most)[0]

    def create_all(self, wanted: Sequence["NewHost"], most: int = MANY) -> list[Loaded]:
        """Store new hosts at revision 1, all or none; the first of each entry is answered.

        Raises the same as ``create``.
        """
        made = [_Template(entry) for entry in wanted]
        with self._database.writing() as connection:
            self._database.in_order(
                connection
            )  # first, so that nobody waits here for a name while holding another
            found = [self._insert_all(connection, template, most) for template in made]
        for template in made:
            template.settle()
        return found

    def _insert_all(self, connection: Connection, template: "_Template", most: int) -> Loaded:
        """The sections of the first are written, those of the others copied by the database."""
        first, *others = template.entry.names
        loaded = self._insert(connection, first, template, most)
        encoded = [(loaded.host_id, *row[1:]) for row in template.encoded]
        _replace_sections(connection, loaded, template.sections, encoded, anew=False)
        template.entry.change.answer = None  # it is kept with the first
        for name in others:
            host_id = self._insert(connection, name, template, most).host_id
            for table in (t.sections, t.memory_blocks):
                _copy_rows(connection, table, loaded.host_id, host_id)
        return loaded

    def _insert(self, connection: Connection, name: str, template: "_Template", most: int) -> Loaded:
        """All rows of a host but its sections."""
        host, change, saved = template.entry.host, template.entry.change, template.saved
        if connection.execute(select(t.hosts.c.id).where(t.hosts.c.name == name)).one_or_none():
            raise StaleRevision(name)
        _check_quota(connection, most)
        created_at = log.rfc3339(change.now_ns)
        created = {"name": name, "created_at": created_at, "revision": 1}
        values = {**created, "last_event_id": len(change.events), **rows.host_row(host)}
        new_id = insert(t.hosts).values(values).returning(t.hosts.c.id)
        host_id = connection.execute(new_id).scalar_one()
        loaded = Loaded(host_id, name, 1, 0, created_at, host, saved, template.seal)
        rows.save_changes(connection, host_id, {}, saved)
        sums = _sealed(loaded, saved["hosts"][()], 1, len(change.events))
        connection.execute(update(t.hosts).where(t.hosts.c.id == host_id).values(sums))
        connection.execute(insert(t.worker_claims).values(
            host_id=host_id, claimed_until_ns=0, failures=0, retry_at_ns=0))  # fmt: skip
        self._append_history(connection, loaded, change, template.figures)
        self._write_beside(connection, loaded, change)
        loaded.last_event_id, loaded.figures = len(change.events), template.figures
        return loaded

    def save(self, loaded: Loaded, change: Change) -> None:
        """Write what changed since the host was loaded or saved, as its next revision.

        A change that left no trace keeps the revision.

        Raises:
            StaleRevision: the rows are of another revision by now.
            KeyTaken: another answer was stored for the key.
        """
        host, present = loaded.host, rows.snapshot(loaded.host)
        dirty = np.flatnonzero(host.mem.dirty)
        revision = loaded.revision
        if dirty.size or change.events or present != loaded.saved:
            revision += 1
        elif change.answer is None:
            return
        if change.answer is not None:
            change.answer.reply["revision"] = revision
        found = loaded.figures
        if revision != loaded.revision:
            found = figures(host, change.events, loaded.figures)
        encoded = encode(host.mem, loaded.host_id, dirty) if dirty.size else []
        loaded.seal.change_rows(loaded.saved, present)
        loaded.seal.set_sections(encoded)
        with self._database.writing() as connection:
            if revision != loaded.revision:
                self._next_revision(connection, loaded, present, len(change.events))
                rows.save_changes(connection, loaded.host_id, loaded.saved, present)
                _replace_sections(connection, loaded, dirty, encoded, anew=True)
                loaded.revision = revision
                self._append_history(connection, loaded, change, found)
            self._write_beside(connection, loaded, change)
        loaded.last_event_id, loaded.figures = loaded.last_event_id + len(change.events), found
        rows.settle(present, loaded.saved)
        loaded.saved = present
        host.mem.dirty[:] = False

    def replace(self, before: Loaded, host: Host, change: Change) -> Loaded:
        """Write another machine in place of a host, as its next revision.

        Raises:
            StaleRevision: the rows are of another revision by now.
            KeyTaken: another answer was stored for the key.
        """
        saved, stored = rows.snapshot(host), stored_sections(host.mem)
        sealed = HostSeal(host.mem.nr_sections)
        sealed.change_rows({}, saved)
        loaded = replace(before, host=host, seal=sealed, figures=figures(host, change.events, None), shown={})
        encoded = encode(host.mem, loaded.host_id, stored)
        sealed.set_sections(encoded)
        with self._database.writing() as connection:
            self._next_revision(connection, loaded, saved, len(change.events))
            rows.save_changes(connection, loaded.host_id, before.saved, saved)
            for table in (t.sections, t.memory_blocks):
                connection.execute(delete(table).where(table.c.host_id == loaded.host_id))
            _replace_sections(connection, loaded, stored, encoded, anew=False)
            loaded.revision += 1
            self._append_history(connection, loaded, change, loaded.figures)
            self._write_beside(connection, loaded, change)
        loaded.last_event_id += len(change.events)
        rows.settle(saved, {})
        loaded.saved = saved
        host.mem.dirty[:] = False
        return loaded

    def _write_beside(self, connection: Connection, loaded: Loaded, change: Change) -> None:
        log.append(
            connection,
            loaded.host_id,
            loaded.last_event_id,
            change.events,
            revision=loaded.revision,
            now_ns=change.now_ns,
            by=change.by,
        )
        cause = history.cause_of(change.events)
        if cause:
            feed.append(
                self._database, connection, loaded.host_id, loaded.name, loaded.revision, change.now_ns, cause
            )
        if change.labels is not None:
            fleet.set_labels(connection, loaded.host_id, change.labels)
        if change.beside is not None:
            change.beside(connection, loaded.host_id)
        if change.answer is not None:
            idempotency.keep(connection, change.answer, change.now_ns)

    def _append_history(
        self, connection: Connection, loaded: Loaded, change: Change, found: Figures | None
    ) -> None:
        if found is not None:
            history.append(
                connection,
                loaded.host_id,
                loaded.revision,
                change.now_ns if change.taken_ns is None else change.taken_ns,
                change.events,
                found,
                keep=self._history_rows,
            )

    def untouched(self, loaded: Loaded) -> bool:
        """Whether the host in memory still equals its rows: a refusal that came before anything was changed."""
        return not loaded.host.mem.dirty.any() and rows.snapshot(loaded.host) == loaded.saved

    def _next_revision(
        self, connection: Connection, loaded: Loaded, present: rows.Snapshot, events: int
    ) -> None:
        """The guard: only from the revision that was loaded."""
        before, now = loaded.saved["hosts"][()], present["hosts"][()]
        values = {name: value for name, value in now.items() if before[name] != value}
        values |= _sealed(loaded, now, loaded.revision + 1, loaded.last_event_id + events)
        guard = {"whose": loaded.host_id, "loaded": loaded.revision}
        new = {f"new_{name}": value for name, value in values.items()}
        result = connection.execute(_guarded_update(tuple(sorted(values))), guard | new)
        if result.rowcount != 1:
            raise StaleRevision(loaded.name)

    def keep_answer(self, change: Change) -> None:
        """Store the answer to a request that changed nothing.  Raises KeyTaken."""
        if change.answer is not None:
            with self._database.writing() as connection:
                idempotency.keep(connection, change.answer, change.now_ns)

    def delete(self, host_id: int, name: str, revision: int, change: Change) -> None:
        """Delete a host and all its rows.  Raises StaleRevision, KeyTaken."""
        guarded = delete(t.hosts).where(t.hosts.c.id == host_id, t.hosts.c.revision == revision)
        with self._database.writing() as connection:
            if connection.execute(guarded).rowcount != 1:
                raise StaleRevision(str(host_id))
            feed.append(
                self._database, connection, host_id, name, revision, change.now_ns, Event.HOST_DELETED
            )
            if change.answer is not None:
                idempotency.keep(connection, change.answer, change.now_ns)


@lru_cache
def _guarded_update(columns: tuple[str, ...]) -> Update:
    """Sets columns of the row of a host that has still the revision that was loaded."""
    c = t.hosts.c
    guarded = update(t.hosts).where(c.id == bindparam("whose"), c.revision == bindparam("loaded"))
    return guarded.values({name: bindparam(f"new_{name}", type_=c[name].type) for name in columns})


def _check_quota(connection: Connection, most: int, more: int = 1) -> None:
    if _count(connection) + more > most:
        raise HostsFull(most)


def _count(connection: Connection) -> int:
    found: int = connection.execute(select(func.count()).select_from(t.hosts)).scalar_one()
    return found


def _loaded(
    head: sqlalchemy.Row[Any], host: Host, saved: rows.Snapshot, found: Sequence[sqlalchemy.Row[Any]]
) -> Loaded:
    """A host that was read, if its seal fits.  Raises Damaged."""
    sealed = HostSeal(host.mem.nr_sections)
    sealed.change_rows({}, saved)
    sealed.set_sections(found)
    if not sealed.fits(head.state_seal):
        raise Damaged(f"the rows of host {head.name!r} are not what was written")
    rows.settle(saved, {})
    about = (head.id, head.name, head.revision, head.last_event_id, head.created_at)
    return Loaded(*about, host, saved, sealed)


def _sealed(loaded: Loaded, row: Row, revision: int, last_event_id: int) -> Row:
    """Columns of a host's row that every change writes; ``row``: those of the engine, as they will be."""
    head = {**row, "name": loaded.name, "created_at": loaded.created_at}
    now = {"revision": revision, "last_event_id": last_event_id, "state_seal": loaded.seal.text()}
    return {**now, "row_seal": seal.of_head({**head, **now})}


def _replace_sections(
    connection: Connection, loaded: Loaded, sections: Sections, encoded: Encoded, *, anew: bool
) -> None:
    """Write sections and the memory blocks they belong to; ``anew``: they may have rows already."""
    if sections.size == 0:
        return
    host, host_id = loaded.host, loaded.host_id
    blocks = _memory_blocks(host, host_id, sections)
    if anew:
        _delete(connection, t.sections, "section", host_id, sections)
        numbers = np.unique(sections // (host.memory_block_pages // SECTION_PAGES))
        _delete(connection, t.memory_blocks, "block", host_id, numbers)
    _insert_sections(connection, encoded)
    insert_rows(connection, t.memory_blocks, _BLOCK_COLUMNS, blocks)


def _insert_sections(connection: Connection, found: list[tuple[Any, ...]]) -> None:
    """Insert rows of sections without their trailing NULLs: binding those costs more than all the rest."""
    plain = [row[:NR_PLAIN] for row in found if row[NR_PLAIN:] == _ALL_NULL]
    insert_rows(connection, t.sections, COLUMNS[:NR_PLAIN], plain)
    if len(plain) < len(found):
        others = [row for row in found if row[NR_PLAIN:] != _ALL_NULL]
        insert_rows(connection, t.sections, COLUMNS, others)


def _copy_rows(connection: Connection, table: Table, host_id: int, to_host_id: int) -> None:
    """Rows of a host as those of another."""
    others = [column for column in table.c if column.name != "host_id"]
    copied = select(literal(to_host_id), *others).where(table.c.host_id == host_id)
    connection.execute(insert(table).from_select(["host_id", *(column.name for column in others)], copied))


def _delete(connection: Connection, table: Table, column: str, host_id: int, numbers: Sections) -> None:
    """Delete the rows of some numbers, run by run."""
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    runs = [(int(part[0]), int(part[-1])) for part in np.split(numbers, cuts)]
    bounds = [{"whose": host_id, "low": low, "high": high} for low, high in runs]
    connection.execute(_delete_run(table, column), bounds)


@lru_cache
def _delete_run(table: Table, column: str) -> Delete:
    within = table.c[column].between(bindparam("low"), bindparam("high"))
    return delete(table).where(table.c.host_id == bindparam("whose"), within)


def _memory_blocks(host: Host, host_id: int, sections: Sections) -> list[tuple[Any, ...]]:
    """Rows of the memory blocks that some sections belong to; a block is online with its first section."""
    mem, size, pages = host.mem, host.memory_block_pages // SECTION_PAGES, host.memory_block_pages
    blocks = np.unique(sections // size)
    inside = np.minimum(blocks[:, None] * size + np.arange(size), mem.nr_sections - 1)
    there = mem.section_state[inside] != SectionState.ABSENT
    first = inside[np.arange(blocks.size), there.argmax(axis=1)]
    some = there.any(axis=1)
    found = zip(blocks[some].tolist(), mem.section_state[first[some]].tolist(),
                mem.section_nid[first[some]].tolist(), strict=True)  # fmt: skip
    return [
        (host_id, block, STATES[state], nid if nid >= 0 else None, block * pages, pages)
        for block, state, nid in found
    ]
