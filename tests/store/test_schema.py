"""The schema: migrations make what the tables say, on any start, for any database."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, insert, inspect, select
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateTable

import hugepool
from hugepool.mm.machine.units import ULONG_MAX
from hugepool.settings import Settings
from hugepool.store import migrate
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.hosts import Change, HostStore
from tests.mm.hosts import machine

VERSIONS = Path(hugepool.__file__).parents[2] / "migrations" / "versions"
NEWEST = max(file.name.split("_")[0] for file in VERSIONS.glob("*.py"))


def test_alembic_check_finds_no_difference(database: Database) -> None:
    with database.migrating() as connection:
        settings = migrate.config()
        settings.attributes["connection"] = connection
        command.check(settings)


def test_a_second_start_changes_nothing(database: Database) -> None:
    migrate.upgrade(database)
    with database.reading() as connection:
        assert migrate.current(connection) == migrate.head() == NEWEST


def test_the_schema_can_be_taken_down_again(database: Database) -> None:
    with database.migrating() as connection:
        settings = migrate.config()
        settings.attributes["connection"] = connection
        command.downgrade(settings, "base")
    engine = create_engine(database.url)
    assert set(inspect(engine).get_table_names()) - {"alembic_version", "sqlite_sequence"} == set()
    engine.dispose()


@pytest.mark.unmigrated
def test_processes_that_start_at_once_all_succeed(settings: Settings) -> None:
    script = (
        "import sys; from hugepool.settings import Settings; from hugepool.service import Service;"
        "s = Service(Settings(database_url=sys.argv[1])); s.start(); print(s.ready().migrations.ok); s.close()"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, settings.database_url], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == ["True"] * 4


def test_migrations_are_found_inside_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "50% off" / "hugepool"
    package.mkdir(parents=True)
    shutil.copytree(Path(hugepool.__file__).parents[2] / "migrations", package / "migrations")
    monkeypatch.setattr(hugepool, "__file__", str(package / "__init__.py"))
    assert migrate.config().get_main_option("script_location") == str(package / "migrations")
    assert migrate.head() == NEWEST


def test_every_table_can_be_made_on_postgresql() -> None:
    dialect = registry.load("postgresql")()
    for table in t.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))


def test_every_row_of_a_host_goes_with_it() -> None:
    for table in t.metadata.sorted_tables:
        if table.name not in (
            "hosts",
            "changes",
            "idempotency_keys",
        ):  # changes: who watches learns of the end
            assert {key.ondelete for key in table.foreign_keys} == {"CASCADE"}, table.name


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1, 2**63, ULONG_MAX])
def test_unsigned_longs_fit(database: Database, store: HostStore, value: int) -> None:
    store.create("lab", machine(), Change(0))
    with database.writing() as connection:
        connection.execute(insert(t.counters).values(host_id=1, name="n", position=0, value=value))
        assert (
            connection.execute(select(t.counters.c.value).where(t.counters.c.name == "n")).scalar_one()
            == value
        )


@pytest.mark.sqlite
def test_connections_are_set_up_for_a_service(database: Database) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    with database.reading() as connection:
        for name, value in wanted.items():
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() == value
