"""A ``hugepool`` command as a child process.  It ends with its parent, or with another process, however that ends.

The child's standard input is a pipe from its parent, through which nothing ever comes.  When the other end is gone,
by a crash or SIGKILL as well, the child stops as it does on SIGTERM.  A child that several processes share watches the
process that these belong to instead.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

STOP_SECONDS = 15.0
OF_PARENT = 0  # in place of a process id
PREFIX = "HUGEPOOL_"
TOLD_BYTES = 4000  # of what a child said, the last of it


class ChildFailed(Exception):
    """A command did not come up, or would not end; says what it printed."""


def start(
    *arguments: str, log: Path, settings: Mapping[str, str] | None = None, owner: int | None = None
) -> "subprocess.Popen[bytes]":
    """Start ``hugepool ARGUMENT...``.  What it prints goes to ``log``; its folder is that of the log.

    ``owner``: the process that it ends with, in place of this one.

    ``HUGEPOOL_*`` variables of the environment are the user's, and not handed on; ``settings`` are set in their place.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    env |= settings or {}
    with log.open("wb") as stream:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "hugepool.harness.child", str(owner or OF_PARENT), *arguments],
            cwd=log.parent,
            env=env,
            stdin=subprocess.DEVNULL if owner else subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a child and wait until it is gone; one that does not stop in time is killed."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()


def said(log: Path) -> str:
    """The last that a child printed."""
    return log.read_bytes()[-TOLD_BYTES:].decode(errors="replace").strip()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _end_with(owner: int) -> None:
    with suppress(ProcessLookupError):  # it has ended already
        select.select([os.pidfd_open(owner)], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the command line of this process, behind the id of the process that it ends with."""
    from hugepool.__main__ import main as command_line  # noqa: PLC0415 - the parent does not need it

    owner = int(sys.argv.pop(1))
    ends = _end_with_parent if owner == OF_PARENT else partial(_end_with, owner)
    threading.Thread(target=ends, daemon=True).start()
    command_line()


if __name__ == "__main__":
    main()
