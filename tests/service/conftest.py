"""A real service on a real SQLite file, with its own clock."""

from collections.abc import Callable, Iterator

import pytest

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.service import Service, Terms
from hugepool.settings import Settings

NOW_NS = 1_700_000_000_000_000_000


class Clock:
    """Stands still by default."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, worker_poll_seconds=0.1)


@pytest.fixture
def another(settings: Settings, clock: Clock) -> Iterator[Callable[[], Service]]:
    """Makes services on the same file, as further processes would."""
    made: list[Service] = []

    def make() -> Service:
        made.append(Service(settings, clock))
        made[-1].start()
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def service(another: Callable[[], Service]) -> Service:
    """A service with one host, ``lab``: two nodes of 2 GiB."""
    service = another()
    nodes = (NodeSpec(2 << 30), NodeSpec(2 << 30))
    service.create("lab", HostSpec(nodes, cmdline="hugetlb_free_vmemmap=on"), Terms())
    return service
