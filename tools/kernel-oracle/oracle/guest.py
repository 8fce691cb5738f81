"""One QEMU guest that runs the agent (guest/) as its init: start, call, read out, end."""

import ctypes
import json
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from oracle.kernels import OracleError, image, initrd, program, run
from oracle.machine import Machine, gib

PR_SET_PDEATHSIG = 1


class GuestGone(OracleError):
    """The guest ended, or does not answer any more."""


@dataclass
class Reply:
    """The agent's answer to one call.  ``blobs``: named pieces of data, in order."""

    result: int
    errno: int
    seconds: float
    blobs: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All data as text."""
        return b"".join(data for _, data in self.blobs).decode("utf8", "replace")


@contextmanager
def disk_image(size: str) -> Iterator[Path]:
    """A sparse file with an empty ext4, gone when the block ends."""
    with tempfile.NamedTemporaryFile(prefix="kernel-oracle-", suffix=".disk") as file:
        file.truncate(gib(size) << 30)
        options = ("-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", "-m", "0")
        run(program("mkfs.ext4"), *options, file.name)
        yield Path(file.name)


class Guest:
    """A running guest.  Use it in a ``with``: however the block ends, its QEMU ends too.

    Args:
        machine: what to boot.
        boot_timeout: seconds until the agent has to answer.

    Raises:
        GuestGone: it did not come up; with the last lines of its console.
        OracleError: QEMU, the kernel or a tool is missing.
    """

    def __init__(self, machine: Machine, boot_timeout: float) -> None:
        self.machine = machine
        self._buffer = b""
        self._number = 0
        with ExitStack() as stack:
            console = tempfile.NamedTemporaryFile(prefix="kernel-oracle-", suffix=".console")  # noqa: SIM115
            self._console = Path(stack.enter_context(console).name)
            pairs = [socket.socketpair() for _ in range(3)]
            self._control, self._replies, self._monitor = (stack.enter_context(ours) for ours, _ in pairs)
            theirs = [other for _, other in pairs]
            disk = stack.enter_context(disk_image(machine.disk)) if machine.disk else None
            command = _qemu(machine, self._console, theirs, disk)
            started = time.monotonic()
            self._process = _start(command, theirs)
            stack.callback(self._end)
            while not self._line(started + boot_timeout).startswith(b"#READY"):
                pass
            self.boot_seconds = time.monotonic() - started
            self._ends = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End QEMU, and remove its files."""
        self._ends.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def console(self) -> list[str]:
        """The lines that the kernel has printed on its console."""
        return self._console.read_text("utf8", "replace").splitlines()

    def call(self, op: str, *args: object, timeout: float = 120) -> Reply:
        """Have the agent do one thing, and wait for its answer.  Raises GuestGone after ``timeout`` seconds."""
        self._number += 1
        number = str(self._number).encode()
        fields = [str(a).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") for a in args]
        self._control.sendall(number + b"\t" + "\t".join([op, *fields]).encode() + b"\n")
        deadline, blobs = time.monotonic() + timeout, []
        while True:
            words = self._line(deadline).split(b" ")
            if words[0] == b"#B":
                blobs.append((words[2].decode(), self._take(int(words[3]) + 1, deadline)[:-1]))
            elif words[0] == b"#E" and words[1] == number:
                return Reply(int(words[2]), int(words[3]), int(words[4]) / 1e6, blobs)

    def monitor(self, command: str, **arguments: Any) -> Any:
        """A command of QEMU's monitor (QMP), and its return value.  Raises OracleError with QEMU's reason."""
        with self._monitor.makefile("rw") as stream:
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer: dict[str, Any] = {}
                while not {"return", "error"} & answer.keys():  # a greeting and events pass by
                    answer = json.loads(stream.readline())
        if "error" in answer:
            raise OracleError(f"QEMU refuses {command}: {answer['error']['desc']}")
        return answer["return"]

    def _fill(self, deadline: float) -> None:
        ready, _, _ = select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))
        data = self._replies.recv(1 << 16) if ready else b""
        if not data:
            raise GuestGone(
                f"the guest {'ended' if ready else 'does not answer any more'}{self._last_words()}"
            )
        self._buffer += data

    def _last_words(self) -> str:
        """The end of the console, and of what QEMU itself said."""
        lines = self.console()[-6:]
        if self._process.poll() is not None or not lines:
            self._process.kill()
            lines += self._process.communicate()[1].decode("utf8", "replace").splitlines()[-3:]
        return "".join(f"\n  | {line}" for line in lines)

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            self._fill(deadline)
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _take(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            self._fill(deadline)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def _qemu(machine: Machine, console: Path, ends: list[socket.socket], disk: Path | None) -> list[str]:
    """QEMU's command: the console on one serial line, the agent's commands on another, its replies on a port."""
    control, replies, monitor = (end.fileno() for end in ends)
    command = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc", "-cpu", "max,la57=off",
        "-accel", f"tcg,thread={'multi' if len(machine.numa) > 1 else 'single'}", "-m", machine.memory_option,
        "-smp", str(max(1, len(machine.numa))), "-display", "none", "-nic", "none", "-no-reboot",
        "-kernel", str(image(machine.kernel)), "-initrd", str(initrd()), "-append", machine.whole_cmdline,
        "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
        "-chardev", f"socket,id=control,fd={control}", "-serial", "chardev:control",
        "-chardev", f"socket,id=replies,fd={replies}", "-device", "isa-debugcon,iobase=0xe9,chardev=replies",
        "-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control",
    ]  # fmt: skip
    for option in machine.devices:
        if not option.startswith("-drive"):
            command += option.split(" ", 1)
    if disk is not None:
        drive = f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"
        command += ["-drive", drive, "-device", "nvme,drive=disk,serial=oracle"]
    return command


def _start(command: list[str], ends: list[socket.socket]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[end.fileno() for end in ends],
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there are no threads here
        )
    except FileNotFoundError:
        raise OracleError("qemu-system-x86_64 is not installed; run: make oracle ARGS=setup") from None
    finally:
        for end in ends:
            end.close()


def _die_with_parent() -> None:
    """In the child: the kernel ends it when this process ends, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
