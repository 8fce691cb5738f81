"""Ways of damaging a database file: by SQL, by bytes, by its neighbours.  Each is a function of the file's path."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

Way = Callable[[Path], None]
PAGE = 4096
LAB = "(SELECT id FROM hosts WHERE name = 'lab')"
OTHER = "(SELECT id FROM hosts WHERE name = 'other')"


def by_sql(*statements: str) -> Way:
    """Run statements with nothing enforced, as a person at a prompt does."""

    def damage(file: Path) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as raw:
            raw.execute("PRAGMA foreign_keys = OFF")
            raw.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                cursor = raw.execute(statement)
                assert cursor.rowcount != 0, f"nothing was damaged: {statement}"
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    return damage


def _set(table: str, column: str, value: str, where: str = f"host_id = {LAB}") -> Way:
    return by_sql(f"UPDATE {table} SET {column} = {value} WHERE {where}")


def _without_constraint(table: str, *statements: str) -> Way:
    """First take NOT NULL from the schema, then the statements in a connection that has read it anew."""

    def damage(file: Path) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as raw:
            raw.execute("PRAGMA writable_schema = ON")
            raw.execute(
                "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table' AND name = ?",
                (table,),
            )
        by_sql(*statements)(file)

    return damage


ONE_SECTION = (
    f"host_id = {LAB} AND section = "
    f"(SELECT min(section) FROM sections WHERE host_id = {LAB} AND {{0}} IS NOT NULL)"
)
OTHER_BLOCKS = (
    f"(SELECT blocks FROM sections WHERE host_id = {LAB} AND blocks IS NOT NULL ORDER BY section DESC)"
)
DROPPED = (
    "hosts",
    "sections",
    "zones",
    "events",
    "counters",
    "idempotency_keys",
    "worker_claims",
    "alembic_version",
)
NO_NULLS = "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table' AND name = ?"
IN_HOSTS = "name = 'lab'"

# What is done -> how.  All are of the host `lab`.
ROWS: dict[str, Way] = {
    # the row of a host
    "a kernel that does not exist": _set("hosts", "kernel", "'9.99'", IN_HOSTS),
    "another kernel": _set("hosts", "kernel", "'6.12'", IN_HOSTS),
    "another command line": _set("hosts", "cmdline", "'quiet'", IN_HOSTS),
    "another name": _set("hosts", "name", "'lob'", IN_HOSTS),
    "an earlier revision": _set("hosts", "revision", "revision - 1", IN_HOSTS),
    "a later revision": _set("hosts", "revision", "revision + 1", IN_HOSTS),
    "a revision that is text": _set("hosts", "revision", "'many'", IN_HOSTS),
    "more sections": _set("hosts", "nr_sections", "nr_sections + 1", IN_HOSTS),
    "sections without end": _set("hosts", "nr_sections", "1 << 60", IN_HOSTS),
    "fewer sections": _set("hosts", "nr_sections", "2", IN_HOSTS),
    "no sections": _set("hosts", "nr_sections", "-1", IN_HOSTS),
    "another seed": _set("hosts", "seed", "seed + 1", IN_HOSTS),
    "a tunable that is text": _set("hosts", "min_free_kbytes", "'lots'", IN_HOSTS),
    "a tunable that is a fraction": _set("hosts", "watermark_scale_factor", "10.5", IN_HOSTS),
    "state that is no JSON": _set("hosts", "more_state", "'{'", IN_HOSTS),
    "state that is a list": _set("hosts", "more_state", "'[]'", IN_HOSTS),
    "state that is empty": _set("hosts", "more_state", "'{}'", IN_HOSTS),
    "JSON that is a BLOB": _set("hosts", "lowmem_reserve_ratio", "x'00ff'", IN_HOSTS),
    "a truth that is text": _set("hosts", "movable_node", "'yes'", IN_HOSTS),
    "the feature switched": _set("hosts", "optimize_enabled", "1 - optimize_enabled", IN_HOSTS),
    "a seal of zeros": _set("hosts", "state_seal", "'00000000-0000000000000000'", IN_HOSTS),
    "no state seal": _set("hosts", "state_seal", "NULL", IN_HOSTS),
    "no row seal": _set("hosts", "row_seal", "NULL", IN_HOSTS),
    "the rows of two hosts exchanged": by_sql(
        "UPDATE hosts SET name = 'third' WHERE name = 'lab'",
        "UPDATE hosts SET name = 'lab' WHERE name = 'other'",
        "UPDATE hosts SET name = 'other' WHERE name = 'third'",
    ),
    "NULL for a kernel": _without_constraint("hosts", f"UPDATE hosts SET kernel = NULL WHERE {IN_HOSTS}"),
    "NULL for a revision": _without_constraint("hosts", f"UPDATE hosts SET revision = NULL WHERE {IN_HOSTS}"),
    # small tables
    "a counter changed": _set("counters", "value", "value + 1"),
    "counters gone": by_sql(f"DELETE FROM counters WHERE host_id = {LAB}"),
    "what is carried gone": by_sql(f"DELETE FROM carried WHERE host_id = {LAB}"),
    "what is carried is no JSON": _set("carried", "carried", "'{\"'"),
    "a node gone": by_sql(f"DELETE FROM nodes WHERE host_id = {LAB} AND node = 1"),
    "a foreign node": by_sql(
        f"INSERT INTO nodes SELECT host_id, 9, cpus, distance FROM nodes WHERE host_id = {LAB} AND node = 0"
    ),
    "CPUs of no list": _set("nodes", "cpus", "'7'"),
    "a zone gone": by_sql(f"DELETE FROM zones WHERE host_id = {LAB} AND zone = 0"),
    "a zone moved": _set("zones", "start_pfn", "start_pfn + 512"),
    "free pages of a zone": _set("zones", "nr_free", "nr_free - 1"),
    "a zone of another node": _set("zones", "node", "1 - node"),
    "a pool larger": _set("hstates", "nr_huge_pages", "nr_huge_pages + 1"),
    "a pool gone": by_sql(f"DELETE FROM hstates WHERE host_id = {LAB} AND page_order = 9"),
    "a foreign pool": by_sql(f"UPDATE hstates SET page_order = 7 WHERE host_id = {LAB} AND page_order = 9"),
    "a pool of a node": _set("hstate_nodes", "free_huge_pages", "free_huge_pages + 1"),
    "pools of nodes gone": by_sql(f"DELETE FROM hstate_nodes WHERE host_id = {LAB} AND node = 1"),
    "a task gone": by_sql(f"DELETE FROM tasks WHERE host_id = {LAB} AND kind = 'anon'"),
    "a task of another kind": _set("tasks", "kind", "'kernel'", f"host_id = {LAB} AND kind = 'anon'"),
    "memory of a task that is text": _set("tasks", "runs", "'abc'"),
    "memory of a task cut": _set("tasks", "runs", "substr(runs, 1, 4)"),
    "memory of a task empty": _set("tasks", "runs", "x''"),
    "a mapping without its task": _set("huge_maps", "pid", "pid + 1000"),
    "pages of a mapping cut": _set("huge_maps", "pages", "substr(pages, 1, length(pages) - 3)"),
    "a mapping longer": _set("huge_maps", "count", "count + 1"),
    "a range gone": by_sql(f"DELETE FROM contig_ranges WHERE host_id = {LAB}"),
    "a range moved": _set("contig_ranges", "start_pfn", "start_pfn + 512"),
    "a fault point that does not exist": _set("faults", "point", "'gremlins'"),
    "a fault armed otherwise": _set("faults", "times", "times + 1"),
    "a foreign huge page in the queue": by_sql(f"INSERT INTO deferred_frees VALUES ({LAB}, 77, 512, 9)"),
    # sections
    "a section gone": by_sql(f"DELETE FROM sections WHERE host_id = {LAB} AND section = 3"),
    "a foreign section": by_sql(
        f"UPDATE sections SET section = 1000 WHERE host_id = {LAB} AND section = 3"
    ),
    "the section of another host": by_sql(
        f"DELETE FROM sections WHERE host_id = {LAB} AND section = 1",
        f"UPDATE sections SET host_id = {LAB} WHERE host_id = {OTHER} AND section = 1",
    ),
    "a section of no state": _set("sections", "state", "'limbo'"),
    "sections offline": _set("sections", "state", "'offline'"),
    "a section of another zone": _set("sections", "zone", "0"),
    "a mapping of the vmemmap": _set("sections", "mapping", "NULL", f"host_id = {LAB} AND mapping = 'pte'"),
    "the frames of a vmemmap": _set("sections", "vmemmap_pfn", "vmemmap_pfn + 512"),
    "uses of pageblocks cut": _set("sections", "blocks", "substr(blocks, 1, 10)", ONE_SECTION.format("blocks")),
    "uses of pageblocks enlarged": _set("sections", "blocks", "blocks || zeroblob(100)", ONE_SECTION.format("blocks")),
    "uses of pageblocks NULL": _set("sections", "blocks", "NULL", ONE_SECTION.format("blocks")),
    "uses of pageblocks of another section": _set(
        "sections", "blocks", OTHER_BLOCKS, ONE_SECTION.format("blocks")
    ),
    "uses of pages that are text": _set("sections", "pages", "'none'", ONE_SECTION.format("pages")),
    "uses of pages swapped": _set("sections", "pages", "x'789c0300000000010000'", ONE_SECTION.format("pages")),
    "a page table cut": _set("sections", "first_stamp", "first_stamp + 1", ONE_SECTION.format("first_stamp")),
    "the order of free pages": _set("sections", "stamps", "NULL", ONE_SECTION.format("stamps")),
    # history and answers
    "an event of another type": _set("events", "type", "'PoolEmptied'", f"host_id = {LAB} AND id = 1"),
    "an event of another person": _set("events", "made_by", "'mallory'", f"host_id = {LAB} AND id = 2"),
    "an event with other data": _set("events", "data", "'{}'", f"host_id = {LAB} AND id = 2"),
    "an event that is no JSON": _set("events", "data", "'{'", f"host_id = {LAB} AND id = 2"),
    "an event of another time": _set("events", "time", "'2001-01-01T00:00:00.000000Z'", f"host_id = {LAB} AND id = 2"),
    "an event gone from the middle": by_sql(f"DELETE FROM events WHERE host_id = {LAB} AND id = 3"),
    "the last event gone": by_sql(f"DELETE FROM events WHERE host_id = {LAB} AND id = (SELECT max(id) FROM events)"),
    "an event that never was": by_sql(
        "INSERT INTO events (host_id, id, revision, time, made_by, type, data, seal) "
        f"SELECT host_id, 9999, revision, time, made_by, type, data, seal FROM events WHERE host_id = {LAB} AND id = 1"
    ),
    "figures of the past changed": _set("history", "figures", "x'0102'", f"host_id = {LAB} AND revision = 2"),
    "figures of now changed": _set("history", "cause", "'Magic'", f"host_id = {LAB} AND revision = 7"),
    "a moment of the past gone": by_sql(f"DELETE FROM history WHERE host_id = {LAB} AND revision = 3"),
    "the newest moment gone": by_sql(f"DELETE FROM history WHERE host_id = {LAB} AND revision = 7"),
    "a label changed": _set("labels", "value", "'8'", f"host_id = {LAB} AND key = 'rack'"),
    "a label gone": by_sql(f"DELETE FROM labels WHERE host_id = {LAB} AND key = 'rack'"),
    "a change of another host": by_sql("UPDATE changes SET name = 'other' WHERE name = 'lab'"),
    "a change of another cause": by_sql("UPDATE changes SET cause = 'Magic' WHERE seq = 2"),
    "a stored answer changed": by_sql("UPDATE idempotency_keys SET reply = '{}'"),
    "a stored answer that is no JSON": by_sql("UPDATE idempotency_keys SET reply = 'x'"),
    "a stored answer of another request": by_sql("UPDATE idempotency_keys SET fingerprint = 'x'"),
}  # fmt: skip

TABLES: dict[str, Way] = {
    **{
        f"the table {table} dropped": by_sql(f"DROP TABLE {table}")
        for table in DROPPED
    },
    "a table renamed": by_sql("ALTER TABLE zones RENAME TO zonen"),
    "a column renamed": by_sql("ALTER TABLE hosts RENAME COLUMN kernel TO kernels"),
    "a column dropped": by_sql("ALTER TABLE sections DROP COLUMN free_pages"),
    "a table that is a view": by_sql(
        "ALTER TABLE faults RENAME TO points", "CREATE VIEW faults AS SELECT * FROM points"
    ),
    "a trigger that changes rows": by_sql(
        "CREATE TRIGGER t AFTER UPDATE ON hosts BEGIN UPDATE zones SET nr_free = nr_free + 1; END"
    ),
    "a newer schema": by_sql("UPDATE alembic_version SET version_num = '9999'"),
    "an older schema": by_sql("UPDATE alembic_version SET version_num = '0002'"),
    "no version of the schema": by_sql("DELETE FROM alembic_version"),
    "two versions of the schema": by_sql("INSERT INTO alembic_version VALUES ('0001')"),
    "a schema that is no SQL": by_sql(
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE zones (' || char(31) || ')' WHERE name = 'zones'"
    ),
    "a schema that is no text": by_sql(
        "UPDATE sqlite_schema SET sql = CAST(x'435245415445205441424c4520a8' AS TEXT) WHERE name = 'zones'"
    ),
    "an index that has lost its rows": by_sql(
        "UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE (name)', 'CHECK (name <> 0)') "
        "WHERE name = 'hosts' AND type = 'table'"
    ),
}  # fmt: skip


# -- bytes -------------------------------------------------------------------------------------------------


def flip(file: Path, seed: int, count: int = 1) -> None:
    """Turn bits over, anywhere."""
    chance, content = random.Random(seed), bytearray(file.read_bytes())
    for _ in range(count):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _cut(file: Path, keep: float) -> None:
    with file.open("r+b") as stream:
        stream.truncate(int(file.stat().st_size * keep))


def _zero_page(file: Path, number: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(number * PAGE)
        stream.write(bytes(PAGE))


def _swap_pages(file: Path, one: int, two: int) -> None:
    content = bytearray(file.read_bytes())
    a, b = slice(one * PAGE, (one + 1) * PAGE), slice(two * PAGE, (two + 1) * PAGE)
    content[a], content[b] = content[b], content[a]
    file.write_bytes(content)


def _overwrite(file: Path, offset: int, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def _garbage(file: Path) -> None:
    file.write_bytes(random.Random(7).randbytes(file.stat().st_size))


def _text(file: Path) -> None:
    file.write_text("name,kernel\nlab,5.14\n" * 500)


BYTES: dict[str, Way] = {
    **{f"bit flip {seed}": partial(flip, seed=seed) for seed in range(10)},
    **{f"{count} bit flips": partial(flip, seed=100 + count, count=count) for count in (10, 100, 1000)},
    **{f"cut to {keep:.0%}": partial(_cut, keep=keep) for keep in (0.001, 0.1, 0.5, 0.9, 0.99)},
    **{f"page {number} zeroed": partial(_zero_page, number=number) for number in (1, 2, 5, 14)},
    "two pages exchanged": partial(_swap_pages, one=4, two=11),
    "two other pages exchanged": partial(_swap_pages, one=17, two=22),
    "another page size": partial(_overwrite, offset=16, content=b"\x02\x00"),
    "another magic word": partial(_overwrite, offset=0, content=b"SQLight"),
    "a schema of another format": partial(_overwrite, offset=44, content=b"\x00\x00\x00\x09"),
    "another text encoding": partial(_overwrite, offset=56, content=b"\x00\x00\x00\x03"),
    "garbage": _garbage,
    "a text file": _text,
}


# -- the write-ahead log -----------------------------------------------------------------------------------


def _wal_of(file: Path) -> Path:
    return file.with_name(file.name + "-wal")


def _foreign_wal(file: Path) -> None:
    """The log of another database: SQLite replays it, as its own sums are right."""
    other = file.with_name("other.db")
    shutil.copy(file, other)
    with closing(sqlite3.connect(other, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("UPDATE zones SET nr_free = nr_free + 7")
        raw.execute("UPDATE events SET type = 'Nothing'")
        shutil.copy(_wal_of(other), _wal_of(file))
    other.unlink()


def _garbage_wal(file: Path) -> None:
    _wal_of(file).write_bytes(random.Random(5).randbytes(100_000))


WAL: dict[str, Way] = {"the log of another database": _foreign_wal}
# SQLite's own sums tell that these are no log of its own; what was in the file before is all there.
HARMLESS_WAL: dict[str, Way] = {"garbage for a log": _garbage_wal}


def all_ways() -> Iterator[tuple[str, Way]]:
    """Every way that damages something."""
    for table in (ROWS, TABLES, BYTES, WAL):
        yield from table.items()
