"""A service that is killed: started within milliseconds, out of a process that has everything imported already."""

import multiprocessing
import os
import sys
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from hugepool.client import Client, Refused, Unreachable
from tests.docs.server import free_port

CONTEXT = multiprocessing.get_context("forkserver")
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.005


def prepare() -> None:
    """Import what services need once, for all that are started; before the first one."""
    CONTEXT.set_forkserver_preload(["hugepool.server", "hugepool.whatif.run", "tests.attack.victim"])


def _serve(folder: str, port: int, more: dict[str, Any]) -> None:
    """The child."""
    from hugepool.server import serve  # noqa: PLC0415 - the parent only asks
    from hugepool.settings import Settings  # noqa: PLC0415

    os.setsid()
    with (Path(folder) / "service.log").open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    database = f"sqlite:///{folder}/hugepool.db"
    came_up = serve(Settings(database_url=database, port=port, log_level="warning", **more))
    sys.exit(0 if came_up else 1)


class Victim:
    """A service on the database of a folder, on its own port, that may be started many times."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.port, self.settings = folder, free_port(), settings
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: ForkServerProcess | None = None

    @property
    def pid(self) -> int:
        """Its process, while it runs."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Begin to start it; it is not up when this returns."""
        self._process = CONTEXT.Process(
            target=_serve, args=(str(self.folder), self.port, self.settings), daemon=False
        )
        self._process.start()

    def kill(self) -> bool:
        """SIGKILL; whether it was still alive."""
        process = self._process
        assert process is not None
        alive = process.is_alive()
        process.kill()
        process.join(PATIENCE_SECONDS)
        return alive

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        if self._process is not None:
            self._process.terminate()
            self._process.join(30.0)
            self.kill()

    def client(self, timeout_seconds: float = PATIENCE_SECONDS) -> Client:
        """Speaks with it."""
        return Client(self.url, token="", timeout_seconds=timeout_seconds)

    def await_ready(self) -> None:
        """Wait until it can do its work.  Raises AssertionError when it ends or does not come up."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.client() as client:
            while True:
                with suppress(Refused, Unreachable):
                    client.request("GET", "/healthz/ready")
                    return
                assert self._process is not None
                assert self._process.is_alive(), f"it ended: {self.log()[-2000:]}"
                assert time.monotonic() < deadline, f"it does not come up: {self.log()[-2000:]}"
                time.sleep(POLL_SECONDS)

    def log(self) -> str:
        """All that it has said."""
        file = self.folder / "service.log"
        return file.read_text(errors="replace") if file.exists() else ""
