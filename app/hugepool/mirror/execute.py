"""``hugepool exec``: a program that sees a host's files where it looks for the machine's."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from hugepool.client import Client
from hugepool.mirror.machine import OverMachine, Sysctls
from hugepool.mirror.mount import CannotMount, available, detach, mount
from hugepool.mirror.namespace import ONE_BY_ONE, CannotCover, cover, separate, step_aside
from hugepool.mirror.session import Fixed
from hugepool.mirror.view import Mirror

NOT_FOUND, NOT_EXECUTABLE, OF_SIGNAL = 127, 126, 128  # exit statuses as a shell has them
PR_SET_PDEATHSIG = 1
READY = b"1"
PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


def execute(url: str, host: str, program: list[str], warn: Callable[[str], None]) -> int:
    """Run a program in a namespace where a host's files lie over the machine's; its exit status as a shell tells it.

    This process moves into the namespace for good.

    Raises:
        CannotMount: no FUSE here.
        CannotCover: no namespace here: the kernel refuses it.
    """
    separate()
    available()
    with tempfile.TemporaryDirectory(prefix="hugepool-") as folder, _mounted(url, host, Path(folder)):
        for path in _covered(Path(folder)):
            warn(f"{path} is left out: this machine has no such file to lay it over")
        return run(program)


def _covered(folder: Path) -> list[str]:
    try:
        return cover(folder)
    except OSError as error:  # of the mount: what the service lists is refused there
        raise CannotCover(f"the host's files cannot be laid over the machine's: {error.strerror}") from None


@contextmanager
def _mounted(url: str, host: str, folder: Path) -> Iterator[None]:
    """The host's files on a folder, served by a child process that ends with the block, or with this process."""
    readable, writable = os.pipe()
    with tempfile.TemporaryFile() as said, os.fdopen(readable, "rb") as ready:
        child = os.fork()
        if child == 0:
            _serve(url, host, folder, writable, said.fileno())
        os.close(writable)
        try:
            if ready.read(1) != READY:
                said.seek(0)
                raise CannotMount(said.read().decode(errors="replace").strip() or "the mount did not come up")
            yield
        finally:
            _stop(child)
            detach(folder)


def _serve(url: str, host: str, folder: Path, ready: int, errors: int) -> None:
    """The child: mounts, says so, serves, and exits without the parent's clean-up.

    What the parent lays over the machine's files is not laid over them for the child, which would ask itself.

    stderr is the program's: what this process has to say goes elsewhere, for the case that there is no mount.
    """
    status = 1
    try:
        os.dup2(errors, 2)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.setsid()  # Ctrl-C is for the program
        sysctls, root = Sysctls(), os.open("/", os.O_PATH | os.O_CLOEXEC)
        with Client(url) as client:
            tree = OverMachine(Mirror(client, host), sysctls)
            told = partial(os.write, ready, READY)
            mount(tree, host, folder, told, attached=step_aside, fixed=Fixed(ONE_BY_ONE, root))
        status = 0
    except Exception as error:  # noqa: BLE001 - the parent hears that it failed, and why
        os.write(errors, f"{error}\n".encode())
    finally:
        os._exit(status)


def _stop(child: int) -> None:
    """End the mount.  Whoever still uses it keeps what is laid over, and gets ENOTCONN."""
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)


def run(program: list[str]) -> int:
    """Run a program to its end; its exit status as a shell has it.

    The terminal sends Ctrl-C to the program itself; what would end this process is passed on to it.
    """
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if running:
            running[0].send_signal(number)
        else:
            early.append(number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)  # a handler: to ignore is inherited
    try:
        running.append(subprocess.Popen(program))  # noqa: S603 - what the user asked to run
        for number in early:
            running[0].send_signal(number)
        status = running[0].wait()
    except FileNotFoundError:
        sys.stderr.write(f"{program[0]}: command not found\n")
        return NOT_FOUND
    except PermissionError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        return NOT_EXECUTABLE
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return OF_SIGNAL - status if status < 0 else status
