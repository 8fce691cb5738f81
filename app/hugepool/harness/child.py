"""A ``hugepool`` command as a child process.  It ends with its parent, however the parent ends.

The child's standard input is a pipe from its parent, through which nothing ever comes.  When the other end is gone,
by a crash or SIGKILL as well, the child stops as it does on SIGTERM.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

STOP_SECONDS = 15.0
PREFIX = "HUGEPOOL_"
TOLD_BYTES = 4000  # of what a child said, the last of it


class ChildFailed(Exception):
    """A command did not come up, or would not end; says what it printed."""


def start(*arguments: str, log: Path, settings: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start ``hugepool ARGUMENT...``.  What it prints goes to ``log``; its folder is that of the log.

    ``HUGEPOOL_*`` variables of the environment are the user's, and not handed on; ``settings`` are set in their place.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    env |= settings or {}
    with log.open("wb") as stream:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "hugepool.harness.child", *arguments],
            cwd=log.parent,
            env=env,
            stdin=subprocess.PIPE,
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


def main() -> None:
    """Run the command line of this process."""
    from hugepool.__main__ import main as command_line  # noqa: PLC0415 - the parent does not need it

    threading.Thread(target=_end_with_parent, daemon=True).start()
    command_line()


if __name__ == "__main__":
    main()
