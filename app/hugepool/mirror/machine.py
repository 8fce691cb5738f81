"""What a program in ``hugepool exec`` finds besides the host's files: the machine's sysctls, files that take anything.

Sysctls that the host lacks are read from the machine, and written to a copy that is private and ends with the program.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from hugepool.client import Refused
from hugepool.mirror.listing import Entry, entry_at
from hugepool.mirror.operations import Tree

SYSCTLS = "/proc/sys"
HOST_SYSCTLS = "/proc/sys/vm"  # where a host has any
MOST_BYTES = 1 << 20  # of one sysctl
# What programs write on their way to their huge pages, and what becomes of it here: nothing.  SPDK's setup.sh has the
# PCI bus looked through again.
ABSORBED = ("/sys/bus/pci/rescan",)
WRITE_ONLY = Entry("file", 0o200)
FOLDER = Entry("directory", 0o755)


class Sysctls:
    """The machine's, read through a descriptor that stays what it is when something is laid over them."""

    def __init__(self, folder: Path = Path(SYSCTLS)) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def entries(self, path: str) -> dict[str, Entry]:
        """What a folder below ``/proc/sys`` holds; nothing where there is none."""
        found = {}
        with suppress(OSError):
            inside = os.open(_below(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                with os.scandir(inside) as entries:
                    for entry in entries:
                        found[entry.name] = _entry(entry.stat(follow_symlinks=False).st_mode)
            finally:
                os.close(inside)
        return found

    def read(self, path: str) -> bytes:
        """The text of a file.  Raises OSError."""
        descriptor = os.open(_below(path), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return file.read(MOST_BYTES) or b""


def _below(path: str) -> str:
    return path.removeprefix(SYSCTLS).strip("/") or "."


def _entry(mode: int) -> Entry:
    return FOLDER if stat.S_ISDIR(mode) else Entry("file", stat.S_IMODE(mode) & 0o666)


class OverMachine:
    """A host's tree with the machine's sysctls beneath."""

    def __init__(self, host: Tree, sysctls: Sysctls) -> None:
        self._host, self._sysctls = host, sysctls
        self._written: dict[str, bytes] = {}

    def entries(self, path: str) -> dict[str, Entry]:
        """What a folder holds."""
        if _is_sysctl(path):
            return {**self._sysctls.entries(path), **(self._of_host(path) if _is_of_host(path) else {})}
        absorbed = _absorbed(path)
        return {**absorbed, **self._of_host(path)} if absorbed else self._host.entries(path)

    def _of_host(self, path: str) -> dict[str, Entry]:
        try:
            return self._host.entries(path)
        except NotADirectoryError:
            return {}
        except Refused as refused:
            if (
                refused.errno_number != errno.ENOENT or "host" in refused.facts
            ):  # not the folder, the host is gone
                raise
            return {}

    def entry(self, path: str) -> Entry:
        """What is at a path.  Raises FileNotFoundError."""
        return entry_at(path, self.entries)

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        if self._is_machines(path):
            return self._written.get(path) or self._sysctls.read(path)
        return self._host.read(path)

    def write(self, path: str, data: bytes, position: int) -> int:
        """write(2)."""
        if path in ABSORBED:
            return len(data)
        if not self._is_machines(path):
            return self._host.write(path, data, position)
        if position == 0 and data.strip():
            self._written[path] = data.rstrip(b"\n") + b"\n"
        return len(data)

    def _is_machines(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return _is_sysctl(folder) and not (_is_of_host(folder) and name in self._of_host(folder))


def _is_sysctl(path: str) -> bool:
    return path == SYSCTLS or path.startswith(SYSCTLS + "/")


def _is_of_host(path: str) -> bool:
    return path == HOST_SYSCTLS or path.startswith(HOST_SYSCTLS + "/")


def _absorbed(path: str) -> dict[str, Entry]:
    """What of the files that take anything lies in a folder, or below it."""
    found = {}
    for file in ABSORBED:
        if file.startswith(path.rstrip("/") + "/"):
            name, _, rest = file.removeprefix(path.rstrip("/") + "/").partition("/")
            found[name] = FOLDER if rest else WRITE_ONLY
    return found
