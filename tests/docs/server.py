"""A real service: its own process, a free port, a scratch database."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hugepool.harness.server import serving

# However slow the machine is, pages show answers and no jobs.
SETTINGS = {"HUGEPOOL_WHAT_IF_WAIT_SECONDS": "120"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(scratch: Path, port: int = 0) -> Iterator[str]:
    """The address of a service that ends with the block; it keeps its hosts in the folder ``scratch``."""
    with serving(scratch, port, SETTINGS) as server:
        yield server.url
