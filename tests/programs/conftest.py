"""One real service for all tests with programs."""

import pytest

from hugepool.client import Client
from hugepool.harness.server import Server
from tests.mirror.helpers import Lab, lab_on


@pytest.fixture(scope="session")
def client(hugepool_server: Server) -> Client:
    return hugepool_server.client


@pytest.fixture
def lab(client: Client) -> Lab:
    """A new host: kernel 6.1, two nodes of 1 GiB and two CPUs each."""
    return lab_on(client)
