"""`hugepool serve` as a process: it starts, answers, and stops when it is asked to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from tests.docs.server import free_port

PATIENCE_SECONDS = 30
STOPS_WITHIN_SECONDS = 5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A serving process on a free port and a client of it; its log lies in ``tmp_path``."""
    port = free_port()
    command = [sys.executable, "-m", "hugepool", "serve", "--port", str(port)]
    settings = os.environ | {"HUGEPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/hugepool.db"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=settings, stdout=log, stderr=log, text=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        try:
            wait_for(client)
            yield process, client
        finally:
            process.kill()
            process.wait()


def wait_for(client: httpx.Client) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            if client.get("/healthz/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the service did not start")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_open_streams_soon(
    server: tuple[subprocess.Popen[str], httpx.Client], tmp_path: Path, number: signal.Signals
) -> None:
    process, client = server
    client.post("/v1/hosts", json={"name": "lab", "spec": {"nodes": [{"memory": "1G"}]}})
    with client.stream("GET", "/v1/hosts/lab/events/stream") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("id: ")) == "id: 1"
        process.send_signal(number)
        began = time.monotonic()
        assert list(lines)  # the stream ends as it should, not torn off
    process.wait(PATIENCE_SECONDS)
    assert time.monotonic() - began < STOPS_WITHIN_SECONDS
    log = (tmp_path / "log").read_text()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("option", "variable", "reported"),
    [
        (["--port", "99999"], {}, "port: "),
        ([], {"HUGEPOOL_PORT": "abc"}, "port: "),
        ([], {"HUGEPOOL_LOG_LEVEL": "loud"}, "log_level: "),
    ],
)
def test_a_wrong_setting_is_named_without_a_trace(
    tmp_path: Path, option: list[str], variable: dict[str, str], reported: str
) -> None:
    command = [sys.executable, "-m", "hugepool", "serve", *option]
    settings = os.environ | {"HUGEPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/hugepool.db"} | variable
    done = subprocess.run(
        command, env=settings, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(reported)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "reported"),
    [
        ("sqlite:////no/such/folder/hugepool.db", "the database failed: unable to open database file"),
        ("nonsense", "the database URL cannot be used: "),
        ("postgresql+nosuch://somewhere/hosts", "the database URL cannot be used: "),
    ],
)
def test_a_database_that_cannot_be_used_is_reported_in_one_line(url: str, reported: str) -> None:
    command = [sys.executable, "-m", "hugepool", "serve", "--port", "0", "--database-url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(reported)
    assert done.stderr.count("\n") == 1


def test_the_version_is_shown() -> None:
    command = [sys.executable, "-m", "hugepool", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout == f"hugepool {version('hugepool')}\n"
