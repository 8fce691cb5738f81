"""The database file: private, the same one all the time, and every way it can fail said in one sentence."""

import logging
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.machine.state import Call
from hugepool.settings import Settings
from hugepool.store import sqlite
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import Busy, HostsFull, RowRefused, StaleRevision, StoreFailure
from hugepool.store.hosts import Change, HostStore
from hugepool.store.migrate import upgrade

pytestmark = pytest.mark.sqlite

SMALL = HostSpec((NodeSpec(1 << 30),))


def create(store: HostStore, name: str, most: int = 100) -> None:
    store.create(name, boot(SMALL, Call()), Change(0), most)


def test_a_new_file_and_its_logs_are_for_the_owner_alone(database: Database, tmp_path: Path) -> None:
    database.probe()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("hugepool.db*")}
    assert modes == dict.fromkeys(("hugepool.db", "hugepool.db-wal", "hugepool.db-shm"), 0o600)


def test_a_file_that_others_may_read_is_left_as_it_is_and_reported(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "hugepool.db"
    file.touch(0o640)
    with caplog.at_level(logging.WARNING):
        database = Database(settings)
        upgrade(database)
    database.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert "chmod 600" in caplog.text


def replace(file: Path) -> None:
    shutil.copy(file, file.with_suffix(".new"))
    file.with_suffix(".new").rename(file)


@pytest.mark.parametrize("harm", [replace, Path.unlink])
def test_nothing_is_written_to_a_file_that_is_not_the_database_any_more(
    database: Database, store: HostStore, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    create(store, "lab")
    file = tmp_path / "hugepool.db"
    harm(file)
    for attempt in (database.probe, lambda: create(store, "other")):
        with pytest.raises(StoreFailure, match=r"replaced|found any more"):
            attempt()
    database.close()  # further connections are no way around it
    with pytest.raises(StoreFailure, match=r"replaced|found any more"):
        store.identity("lab")
    assert file.exists() == (harm is replace)


def test_a_disk_without_room_is_reported_by_the_probe(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.probe()
    monkeypatch.setattr(sqlite, "MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(StoreFailure, match="KiB left"):
        database.probe()


def test_a_full_database_keeps_what_it_has(database: Database, store: HostStore) -> None:
    create(store, "lab")
    with database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with database.reading() as connection:  # the pool gives the same connection again
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    stored: list[str] = []

    def fill() -> None:
        while len(stored) < 100:
            create(store, f"h{len(stored)}")
            stored.append(f"h{len(stored)}")

    with pytest.raises(StoreFailure, match="full"):
        fill()
    assert store.identity(f"h{len(stored)}") is None
    assert all(store.identity(name) for name in stored)
    assert store.identity("lab") is not None


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(StoreFailure, match="name a file") as caught:
        Database(Settings(database_url=url))
    assert "\n" not in str(caught.value)


def test_a_schema_of_a_newer_hugepool_is_refused_and_left_alone(database: Database, tmp_path: Path) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreFailure, match="schema 9999") as caught:
        upgrade(database)
    assert "\n" not in str(caught.value)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "9999"


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "hugepool.db"
    file.write_bytes(content)
    database = Database(Settings(database_url=f"sqlite:///{file}"))
    with pytest.raises(StoreFailure) as caught:
        upgrade(database)
    database.close()
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "hugepool.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("CREATE TABLE hosts (id INTEGER)")
    database = Database(Settings(database_url=f"sqlite:///{file}"))
    with pytest.raises(StoreFailure, match="no version of its schema"):
        upgrade(database)
    database.close()
    with closing(sqlite3.connect(file)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("hosts",)]


def test_a_file_of_an_earlier_version_learns_to_give_pages_back(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "hugepool.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("CREATE TABLE before (x)")
    database = Database(settings)
    upgrade(database)
    database.rebuild()
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() == sqlite.INCREMENTAL
    database.close()


# -- races and bugs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"key": "k", "fingerprint": "f", "expires_ns": 1, "reply": {}}, StaleRevision),  # the key is taken
        ({"key": "new", "fingerprint": None, "expires_ns": 1, "reply": {}}, RowRefused),
    ],
)
def test_only_a_key_that_two_may_want_is_a_race(
    database: Database, row: dict[str, object], error: type[Exception]
) -> None:
    first = {"key": "k", "fingerprint": "f", "expires_ns": 1, "reply": {}}
    with database.writing() as connection:
        connection.execute(insert(t.idempotency_keys).values(first))
    with pytest.raises(error), database.writing() as connection:
        connection.execute(insert(t.idempotency_keys).values(row))


def test_a_row_twice_is_a_bug_and_says_which(database: Database, store: HostStore) -> None:
    create(store, "lab")
    with pytest.raises(RowRefused, match=r"nodes\.host_id"), database.writing() as connection:
        connection.execute(insert(t.nodes).values(host_id=1, node=0, cpus=[], distance=[]))


def test_one_host_too_many_is_refused_within_the_transaction(store: HostStore) -> None:
    create(store, "lab", most=1)
    with pytest.raises(HostsFull):
        create(store, "other", most=1)
    assert store.identity("other") is None


def test_a_writer_that_waits_too_long_for_the_others_is_refused(tmp_path: Path) -> None:
    database = Database(
        Settings(database_url=f"sqlite:///{tmp_path / 'hugepool.db'}", database_timeout_seconds=0.1)
    )
    upgrade(database)
    with database.writing(), pytest.raises(Busy), database.writing():
        pass
    database.close()
