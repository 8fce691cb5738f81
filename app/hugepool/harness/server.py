"""A real service for tests: its own process, a free port of the loopback, a database in a folder."""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path

from hugepool.client import Client, Json, Refused, Unreachable
from hugepool.harness.child import ChildFailed, said, start, stop

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
DIGITS = 12  # of the names of hosts that are copied
POLL_SECONDS = 0.05
LISTENS = re.compile(r"running on (http://\S+) ")


@dataclass
class Server:
    """A running service.

    Attributes:
        url: where it listens.
        pid: of its process.
        client: speaks with it.
        log: what it prints.
        stem: what the names of new hosts begin with: another one in each process that uses the service.
    """

    url: str
    pid: int
    client: Client
    log: Path
    stem: str = "host"
    _booted: dict[str, str] = field(default_factory=dict)
    _names: int = 0

    def booted(self, origin: Json) -> str:
        """The name of a host that is as it was made, to be copied and never changed; one for each origin.

        Args:
            origin: the body of a new host without its name: ``{"spec": ...}``, ``{"state": ...}`` or both.

        Raises:
            Refused: there can be no such machine.
        """
        key = json.dumps(origin, sort_keys=True)
        if key not in self._booted:
            name = f"booted-{sha256(key.encode()).hexdigest()[:DIGITS]}"
            try:
                self.client.change("POST", "hosts", {**origin, "name": name})
            except Refused as refused:
                if refused.errno != "EEXIST":  # another process has made it
                    raise
            self._booted[key] = name
        return self._booted[key]

    def new_name(self) -> str:
        """A name that no host has had yet."""
        self._names += 1
        return f"{self.stem}-{self._names}"


@contextmanager
def shared(folder: Path, owner: int, stem: str) -> Iterator[Server]:
    """A service that several processes use: the first starts it, the others join.  It ends with the process ``owner``.

    Args:
        folder: one for all of them.
        stem: see ``Server``.

    Raises:
        ChildFailed: it did not come up; with what it printed.
    """
    folder.mkdir(exist_ok=True)
    known = folder / "service.json"
    with (folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX)  # until it is closed
        if not known.exists():
            known.write_text(json.dumps(_start_shared(folder, owner)))
        found = json.loads(known.read_text())
    with Client(found["url"], token="") as client:
        yield Server(found["url"], found["pid"], client, folder / "service.log", stem)


def _start_shared(folder: Path, owner: int) -> Json:
    process = _start(folder, 0, None, owner)
    try:
        with Client(_address(process, folder / "service.log"), token="") as client:
            _await_ready(client, process, folder / "service.log")
            process.returncode = 0  # nobody here waits for it: it ends with its owner
            return {"url": client.url, "pid": process.pid}
    except BaseException:
        stop(process)
        raise


def _start(
    folder: Path, port: int, settings: Mapping[str, str] | None, owner: int | None
) -> "subprocess.Popen[bytes]":
    database = f"sqlite:///{folder / 'hugepool.db'}"
    arguments = ("--host", LOOPBACK, "--port", str(port), "--database-url", database)
    return start("serve", *arguments, log=folder / "service.log", settings=settings, owner=owner)


@contextmanager
def serving(
    folder: Path, port: int = 0, settings: Mapping[str, str] | None = None, token: str = ""
) -> Iterator[Server]:
    """A service that is ready, and gone when the block ends.

    Args:
        folder: for its database and its log; a second service in it has the hosts of the first.
        port: 0 takes a free one.
        settings: ``HUGEPOOL_*`` variables; without it all have their defaults.
        token: for the client; the service wants one when ``settings`` name a file of tokens.

    Raises:
        ChildFailed: it did not come up; with what it printed.
    """
    log = folder / "service.log"
    process = _start(folder, port, settings, None)
    try:
        with Client(_address(process, log), token=token) as client:
            _await_ready(client, process, log)
            yield Server(client.url, process.pid, client, log)
    finally:
        stop(process)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens, as it says itself: a port that was looked for before could be taken by now."""
    found = (LISTENS.search(log.read_text()) for _ in _tries(process, log))
    return next(match for match in found if match)[1]


def _await_ready(client: Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in _tries(process, log):
        try:
            client.request("GET", "/healthz/ready")
        except (Refused, Unreachable):
            continue
        return


def _tries(process: "subprocess.Popen[bytes]", log: Path) -> Iterator[None]:
    """One after another as long as the process runs, and not for ever."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = process.poll()
        if status is not None:
            raise ChildFailed(f"hugepool serve ended with status {status} before it was ready:\n{said(log)}")
        yield
        time.sleep(POLL_SECONDS)
    raise ChildFailed(f"hugepool serve is not ready after {START_SECONDS:g} seconds:\n{said(log)}")
