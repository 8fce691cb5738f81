"""One real service for all tests of the mirror."""

from collections.abc import Iterator

import pytest

from app.client import Client
from tests.docs.server import running
from tests.mirror.helpers import Lab, lab_on


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("service")) as url, Client(url) as found:
        yield found


@pytest.fixture
def lab(client: Client) -> Lab:
    """A new host: kernel 6.1, two nodes of 1 GiB and two CPUs each."""
    return lab_on(client)
