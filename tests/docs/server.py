"""A real service: a process of its own, a free port, a scratch database."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.console import ROOT

START_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(scratch: Path, port: int | None = None) -> Iterator[str]:
    """The address of a service that ends with the block; it keeps its hosts in the folder ``scratch``."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    env = os.environ | {
        "HUGEPOOL_DATABASE_URL": f"sqlite:///{scratch / 'hugepool.db'}",
        "HUGEPOOL_WHAT_IF_WAIT_SECONDS": "120",  # however slow the machine is, pages show answers and no jobs
    }
    command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
    log = scratch / "service.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        _await(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/healthz/live", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
