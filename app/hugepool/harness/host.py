"""A host for one test, and what the test does with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hugepool.client import Client, Json, Refused
from hugepool.harness.mount import Mount
from hugepool.harness.server import Server
from hugepool.mirror.export import export
from hugepool.mirror.mount import CannotMount, available
from hugepool.mirror.namespace import NO_NAMESPACE
from hugepool.mirror.operations import errnos
from hugepool.mirror.view import Mirror

if TYPE_CHECKING:
    from hugepool import documents

EXEC_SECONDS = 60.0
CONSOLE_LINES = 20  # of a report
LONG_NAMES = {name: f"{name}_hugepages" for name in ("nr", "free", "resv", "surplus", "nr_overcommit")}
REPORTED = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "max_huge_pages")
ENDS_WITHIN_SECONDS = 5.0


class SimulatedHost:
    """A host of a running service, as it was made; ``end`` it.

    Attributes:
        name: of the host.
        client: speaks with the service.  A refusal is ``hugepool.client.Refused``, with its errno.

    Raises:
        Refused: there can be no such machine; ``origin`` is that of ``Server.booted``.
    """

    def __init__(self, server: Server, origin: Json, folder: Path, skip: Callable[[str], NoReturn]) -> None:
        self.name = server.new_name()
        self.client: Client = server.client
        self._origin = server.booted(origin)
        self._folder, self._skip = folder, skip
        self._mounts: list[Mount] = []
        self._ends = ExitStack()
        self._boot()

    def _boot(self) -> None:
        self.client.fork_host(self.name, self._origin)
        self._ends.callback(self._delete)

    def _delete(self) -> None:
        try:
            self.client.delete_host(self.name)
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:  # a test may have deleted it
                raise

    def end(self) -> None:
        """Unmount and delete the host."""
        self._mounts.clear()
        self._ends.close()

    def reset(self) -> None:
        """Back to the state in which it was made.  What was mounted is mounted again, on the same folders."""
        folders = [mount.folder for mount in self._mounts]
        self.end()
        self._boot()
        for folder in folders:
            self.mount(folder)

    @property
    def url(self) -> str:
        """Where the service listens."""
        return self.client.url

    def read(self, path: str) -> str:
        """The text of a file of ``/proc`` or ``/sys``.  Raises OSError with the errno that open(2) or read(2) sets."""
        with errnos(path):
            return self.client.read_file(self.name, path)

    def write(self, path: str, data: bytes | str) -> str | None:
        """Write a file in one write(2); what came of it, for the size of a pool: ``requested=64; nr_hugepages=61``.

        Raises:
            OSError: with the errno that the kernel sets.
        """
        with errnos(path):
            return self.client.write_file(self.name, path, data)

    def pool(self, size: str = "2048kB") -> "documents.HugePages":
        """The counters of a pool."""
        return self.client.hugepages(self.name, size)

    def assert_pool(self, size: str = "2048kB", *, node: int | None = None, **wanted: int) -> None:
        """Assert counters of a pool, or of its part on a node: ``nr``, ``free``, ``resv``, ``surplus`` and others.

        Raises:
            AssertionError: with every counter that was named, and what it is.
            TypeError: a pool has no counter of that name.
        """
        whole: dict[str, Any] = {**self.pool(size)}
        found = whole if node is None else next(part for part in whole["nodes"] if part["node"] == node)
        counters = {LONG_NAMES.get(name, name): value for name, value in wanted.items()}
        unknown = counters.keys() - {name for name, value in found.items() if isinstance(value, int)}
        if unknown:
            raise TypeError(f"a pool has no counter {', '.join(sorted(unknown))}; it has {', '.join(found)}")
        if any(found[name] != value for name, value in counters.items()):
            where = f"the pool {size} of {self.name}" + ("" if node is None else f" on node {node}")
            raise AssertionError("\n".join([f"{where} is not as expected", *_compared(counters, found)]))

    def report(self) -> str:
        """The host in a few lines: what is attached to the report of a test that fails."""
        shown = self.client.host(self.name)
        pools = [
            " ".join([pool["size"], *(f"{name}={pool[name]}" for name in REPORTED)])  # type: ignore[literal-required]
            for pool in shown["hugepages"]
        ]
        armed = [f"fault {fault['point']} is armed" for fault in shown["faults"]]
        memory = f"{shown['memory']['free_bytes'] >> 20} of {shown['memory']['total_bytes'] >> 20} MiB free"
        console = self.client.dmesg(self.name)[-CONSOLE_LINES:]
        return "\n".join(
            [f"kernel {shown['kernel']}, revision {shown['revision']}, {memory}", *pools, *armed, *console]
        )

    def export(self, folder: Path | None = None) -> Path:
        """Write all files as a plain tree, and give back its folder: by default one in the test's ``tmp_path``.

        A tree that was exported into the same folder before is replaced.
        """
        target = folder or self._folder / "tree"
        export(Mirror(self.client, self.name), target, lambda _: None)
        return target

    def mount(self, folder: Path | None = None) -> Path:
        """Mount the host until the test ends, and give back the folder.  Without FUSE the test is skipped.

        Raises:
            ChildFailed: there is FUSE, and still no mount; with what the command said.
        """
        self._need_fuse()
        number = len(self._mounts)
        target, log = folder or self._folder / f"mount{number}", self._folder / f"mount{number}.log"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._mounts.append(Mount(self.url, self.name, target, log, self.client.token))
        self._ends.callback(self._mounts[-1].end)
        return target

    def exec(
        self, *program: str, stdin: str = "", timeout_seconds: float = EXEC_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program that sees this host in place of the machine, as ``hugepool exec`` does.

        Without FUSE, or without the right to make a mount namespace, the test is skipped.

        Raises:
            subprocess.TimeoutExpired: the program was ended.
            TypeError: the program came as a list.
        """
        if not program or not all(isinstance(word, str) for word in program):
            raise TypeError('exec takes the program and its arguments one by one: exec("lsmem", "--all")')
        self._need_fuse()
        # -P: the folder of the test may hold modules of any name.
        hugepool = [sys.executable, "-P", "-m", "hugepool"]
        with subprocess.Popen(  # noqa: S603 - what the test asked to run
            [*hugepool, "exec", "--url", self.url, self.name, "--", *program],
            env=os.environ | {"HUGEPOOL_TOKEN": self.client.token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout_seconds)
            except BaseException:
                _end_with_all(process)
                raise
        if process.returncode == 1 and err.startswith(NO_NAMESPACE):
            self._skip(err.strip())
        return subprocess.CompletedProcess(program, process.returncode, out, err)

    def _need_fuse(self) -> None:
        try:
            available()
        except CannotMount as error:
            self._skip(str(error))


def _compared(wanted: Mapping[str, int], found: Mapping[str, Any]) -> list[str]:
    """A line for each counter, those that differ marked."""
    width = max(map(len, wanted))
    return [
        f"  {name:{width}}  {found[name]}" + ("" if found[name] == value else f"   expected {value}")
        for name, value in wanted.items()
    ]


def _end_with_all(process: "subprocess.Popen[str]") -> None:
    """Ask ``hugepool exec`` to end, which asks its program; then kill what is left of its session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDS_WITHIN_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
