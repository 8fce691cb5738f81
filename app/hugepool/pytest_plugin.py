"""Fixtures of pytest for who tests a program against a simulated host: ``hugepool_server``, ``hugepool_host``.

pytest loads this in every run of an environment that hugepool is installed in, so it imports nothing but pytest;
the rest comes when a test asks for a fixture.  pytest is no dependency of hugepool: nobody else imports this.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hugepool.client import Refused
    from hugepool.harness.host import SimulatedHost
    from hugepool.harness.server import Server

MARKER = "hugepool"
USAGE = (
    "hugepool(state=...), hugepool(spec={...}) or hugepool(kernel=..., cmdline=..., nodes=[...]): "
    "the machine of hugepool_host"
)
HOST = "hugepool_host"
DEFAULT = {
    "kernel": "6.12",
    "cmdline": "hugetlb_free_vmemmap=on",
    "nodes": [{"memory": "4G", "cpus": 2}, {"memory": "4G", "cpus": 2}],
}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", USAGE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> "Generator[None, pytest.TestReport, pytest.TestReport]":
    """Attach the state of the host to the report of a test that fails."""
    report = yield
    host: SimulatedHost | None = getattr(item, "funcargs", {}).get(HOST)
    if report.when == "call" and report.failed and host is not None:
        report.sections.append((f"{HOST} {host.name}", _report(host)))
    return report


def _report(host: "SimulatedHost") -> str:
    from hugepool.client import Refused, Unreachable

    try:
        return host.report()
    except (Refused, Unreachable) as error:  # the test may have deleted it, or stopped the service
        return f"is not to be seen any more: {error}"


@pytest.fixture(scope="session")
def hugepool_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Server]":
    """A running `hugepool serve` with an empty database: `url`, `client`, `pid`, `log`; one for all of a run."""
    from hugepool.harness.child import ChildFailed
    from hugepool.harness.server import serving, shared

    worker = getattr(request.config, "workerinput", {}).get("workerid")  # of pytest-xdist
    with ExitStack() as stack:
        try:
            if worker is None:
                server = stack.enter_context(serving(tmp_path_factory.mktemp("hugepool")))
            else:
                folder = tmp_path_factory.getbasetemp().parent / "hugepool"
                server = stack.enter_context(shared(folder, os.getppid(), f"host-{worker}"))
        except ChildFailed as error:
            pytest.fail(str(error), pytrace=False)
        yield server


@pytest.fixture
def hugepool_host(
    request: pytest.FixtureRequest, hugepool_server: "Server", tmp_path: Path
) -> "Iterator[SimulatedHost]":
    """A simulated host for the test; the marker `hugepool` says what machine or state, else one of two nodes."""
    from hugepool.client import Refused
    from hugepool.harness.host import SimulatedHost

    origin = _origin(request.node.get_closest_marker(MARKER))
    try:
        host = SimulatedHost(hugepool_server, origin, tmp_path / "hugepool", pytest.skip)
    except Refused as refused:
        pytest.fail(f"no host for the marker {MARKER}: {_why(refused)}", pytrace=False)
    yield host
    host.end()


def _origin(marker: pytest.Mark | None) -> dict[str, Any]:
    """What a marker asks for: a whole spec, fields that replace those of the default, a state, or one on a spec."""
    given = {} if marker is None else dict(marker.kwargs)
    if (marker is not None and marker.args) or ("spec" in given and given.keys() - {"spec", "state"}):
        pytest.fail(f"the marker is {USAGE}; not both, and nothing without a name", pytrace=False)
    state = {"state": given.pop("state")} if "state" in given else {}
    if "spec" in given:
        return {"spec": given["spec"], **state}
    return state if state and not given else {"spec": DEFAULT | given, **state}


def _why(refused: "Refused") -> str:
    """Each field that is wrong; else the one sentence."""
    errors = refused.facts.get("errors", [])
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors) or refused.detail
