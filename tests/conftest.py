"""Which database tests of the store, the service and the interface run on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests import databases
from tests.databases import POSTGRESQL, SQLITE, Cluster

# What runs on PostgreSQL as well, unless --databases says otherwise.
SOME = {
    "tests/api/test_feed.py",
    "tests/api/test_terms.py",
    "tests/store/test_reload.py",
    "tests/store/test_schema.py",
    "tests/service/test_concurrency.py",
    "tests/service/test_road.py",
    "tests/service/test_snapshots.py",
    "tests/service/test_worker.py",
}


class NewDatabase(Protocol):
    """Makes a database and answers its address: in a folder, where it is a file."""

    def __call__(self, folder: Path, *, migrated: bool = True) -> str:
        """``migrated``: with the newest schema, where that costs nothing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--databases",
        choices=("some", "all", "sqlite"),
        default=os.environ.get("DATABASES", "some"),
        help="tests on PostgreSQL as well: a representative part (some), all that can be, or none (sqlite)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with a database of their own run on each."""
    wanted = metafunc.config.getoption("--databases")
    path = metafunc.definition.nodeid.partition("::")[0]
    if "backend" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("sqlite"):
        return
    if wanted == "all" or (wanted == "some" and path in SOME):
        metafunc.parametrize("backend", (SQLITE, POSTGRESQL), indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    kind: str = getattr(request, "param", SQLITE)
    if kind == POSTGRESQL and (why := databases.why_no_postgresql()):
        pytest.skip(why)
    return kind


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A throw-away PostgreSQL."""
    if why := databases.why_no_postgresql():
        pytest.skip(why)
    with databases.cluster() as found:
        yield found


@pytest.fixture(scope="session")
def new_database(backend: str, request: pytest.FixtureRequest) -> NewDatabase:
    """Makes databases of the kind."""
    if backend == POSTGRESQL:
        found: Cluster = request.getfixturevalue("cluster")
        return lambda folder, *, migrated=True: found.new_database(migrated=migrated)
    return lambda folder, *, migrated=True: f"sqlite:///{folder}/hugepool.db"


@pytest.fixture
def database_url(
    new_database: NewDatabase, tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The address of a new database; of an empty one for tests that are marked ``unmigrated``."""
    url = new_database(tmp_path, migrated=request.node.get_closest_marker("unmigrated") is None)
    found: Cluster | None = request.getfixturevalue("cluster") if backend == POSTGRESQL else None
    yield url
    if found is not None:
        found.drop_database(url)
