"""Fixtures of pytest for who tests a program against a simulated host: ``hugepool_server``, ``hugepool_host``.

pytest loads this in every run of an environment that hugepool is installed in, so it imports nothing but pytest;
the rest comes when a test asks for a fixture.  pytest is no dependency of hugepool: nobody else imports this.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hugepool.client import Refused
    from hugepool.harness.host import SimulatedHost
    from hugepool.harness.server import Server

MARKER = "hugepool"
USAGE = "hugepool(spec={...}) or hugepool(kernel=..., cmdline=..., nodes=[...]): the machine of hugepool_host"
DEFAULT = {
    "kernel": "6.12",
    "cmdline": "hugetlb_free_vmemmap=on",
    "nodes": [{"memory": "4G", "cpus": 2}, {"memory": "4G", "cpus": 2}],
}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", USAGE)


@pytest.fixture(scope="session")
def hugepool_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """A running `hugepool serve` with an empty database: `url`, `client`, `pid`, `log`."""
    from hugepool.harness.child import ChildFailed
    from hugepool.harness.server import serving

    with ExitStack() as stack:
        try:
            server = stack.enter_context(serving(tmp_path_factory.mktemp("hugepool")))
        except ChildFailed as error:
            pytest.fail(str(error), pytrace=False)
        yield server


@pytest.fixture
def hugepool_host(
    request: pytest.FixtureRequest, hugepool_server: "Server", tmp_path: Path
) -> "Iterator[SimulatedHost]":
    """A simulated host, booted for the test; the marker `hugepool` says what machine, else one of two nodes."""
    from hugepool.client import Refused
    from hugepool.harness.host import SimulatedHost

    spec = _spec(request.node.get_closest_marker(MARKER))
    try:
        host = SimulatedHost(hugepool_server, spec, tmp_path / "hugepool", pytest.skip)
    except Refused as refused:
        pytest.fail(f"no host for the marker {MARKER}: {_why(refused)}", pytrace=False)
    yield host
    host.end()


def _spec(marker: pytest.Mark | None) -> dict[str, Any]:
    """The machine that a marker asks for: a whole spec, or fields that replace those of the default."""
    if marker is None:
        return DEFAULT
    given = dict(marker.kwargs)
    if marker.args or ("spec" in given and len(given) > 1):
        pytest.fail(f"the marker is {USAGE}; not both, and nothing without a name", pytrace=False)
    spec: dict[str, Any] = given["spec"] if "spec" in given else DEFAULT | given
    return spec


def _why(refused: "Refused") -> str:
    """Each field that is wrong; else the one sentence."""
    errors = refused.facts.get("errors", [])
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors) or refused.detail
