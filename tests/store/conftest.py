"""A real SQLite file for every test."""

from collections.abc import Iterator

import pytest

from hugepool.settings import Settings
from hugepool.store.engine import Database
from hugepool.store.hosts import HostStore
from hugepool.store.migrate import upgrade


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings)
    upgrade(database)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> HostStore:
    return HostStore(database)
