"""What the kernel asks of a FUSE file system, answered by path.  ``mirror.session`` speaks with the kernel.

An operation answers, or raises OSError with the errno that the caller of the system call gets.
"""

import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from typing import Protocol

from hugepool.client import Refused, Unreachable
from hugepool.mirror.listing import Entry

KIND = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
SYSCTLS = "/proc/sys/"
MOST_OF_SYSFS = 4096  # bytes that one write(2) in sysfs takes
INODE_BYTES = 7


class Tree(Protocol):
    """Where files come from: ``mirror.view.Mirror``, or one that lies over something else."""

    def entries(self, path: str) -> dict[str, Entry]: ...
    def entry(self, path: str) -> Entry: ...
    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes, position: int) -> int: ...


@contextmanager
def errnos(path: str) -> Iterator[None]:
    """Every failure as an OSError.  A service that does not answer is EIO: try again when it is back."""
    try:
        yield
    except Refused as refused:
        raise OSError(refused.errno_number, refused.detail, path) from None
    except Unreachable as error:
        raise OSError(errno.EIO, str(error), path) from None
    except FileNotFoundError:
        raise failure(errno.ENOENT, path) from None
    except NotADirectoryError:
        raise failure(errno.ENOTDIR, path) from None
    except IsADirectoryError:
        raise failure(errno.EISDIR, path) from None


def failure(number: int, path: str) -> OSError:
    """The error of an errno."""
    return OSError(number, os.strerror(number), path)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) answers.

    Attributes:
        inode: the same for a path at all times.
        mode: type and permissions.
        size: of a file that can be read the length of its text; None: not known yet.
        times_ns: of the last access and the last change.
    """

    inode: int
    mode: int
    size: int | None
    uid: int
    gid: int
    times_ns: tuple[int, int]

    @property
    def is_file(self) -> bool:
        """Whether it is neither a folder nor a link."""
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True)
class Changes:
    """What chmod(2), chown(2) and utime(2) set; None: as it was."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclass(slots=True)
class _Handle:
    """An open file.

    Attributes:
        text: what the last read from the beginning saw.
        written: bytes so far: with O_APPEND the kernel's files do not look at the end of the file.
    """

    path: str
    flags: int
    text: bytes | None = None
    written: int = 0


class HostFiles:
    """The operations on a host's files.

    A file is read as in sysfs: the text is made when it is read from its beginning, and later parts are of the same
    text.  A write is one request.  Mode, owner and times that a program sets are kept as long as the mount is there.
    """

    def __init__(self, tree: Tree, uid: int | None = None, gid: int | None = None) -> None:
        self._tree = tree
        self._numbers = count(1)
        self._handles: dict[int, _Handle] = {}
        self._set: dict[str, Attributes] = {}
        self._lock = threading.Lock()
        self._born_ns = time.time_ns()
        self._owner = (os.getuid() if uid is None else uid, os.getgid() if gid is None else gid)

    def attributes(self, path: str) -> Attributes:
        """What lies at a path; the size of a file is not looked up."""
        with errnos(path):
            entry = self._tree.entry(path)
        kept = self._set.get(path)
        if kept is not None:
            return kept
        size = {"directory": 0, "symlink": len(entry.target or "")}.get(entry.type)
        mode = KIND[entry.type] | entry.mode
        return Attributes(_inode(path), mode, size, *self._owner, (self._born_ns, self._born_ns))

    def text(self, path: str) -> bytes:
        """All of a file, as it is now; nothing of one that can only be written."""
        with errnos(path):
            return self._tree.read(path) if self._tree.entry(path).mode & 0o444 else b""

    def change(self, path: str, changes: Changes) -> Attributes:
        """chmod(2), chown(2), utime(2): as root may in sysfs; below /proc/sys only the times."""
        now = self.attributes(path)
        owned = (changes.mode, changes.uid, changes.gid)
        if path.startswith(SYSCTLS) and any(value is not None for value in owned):
            raise failure(errno.EPERM, path)
        mode = now.mode if changes.mode is None else stat.S_IFMT(now.mode) | (changes.mode & 0o777)
        accessed, changed = now.times_ns
        times = (_or(changes.atime_ns, accessed), _or(changes.mtime_ns, changed))
        uid, gid = _or(changes.uid, now.uid), _or(changes.gid, now.gid)
        self._set[path] = replace(now, mode=mode, uid=uid, gid=gid, times_ns=times)
        return self._set[path]

    def entries(self, path: str) -> list[tuple[str, int, int]]:
        """Names with their inodes and types."""
        with errnos(path):
            entries = self._tree.entries(path)
        stem = path.rstrip("/")
        return [(name, _inode(f"{stem}/{name}"), KIND[entry.type]) for name, entry in entries.items()]

    def link(self, path: str) -> str:
        """Where a link leads."""
        with errnos(path):
            target = self._tree.entry(path).target
        if target is None:
            raise failure(errno.EINVAL, path)
        return target

    def open(self, path: str, flags: int) -> int:
        """A handle.

        EACCES for an access that the file's mode has for nobody, as in sysfs even for root; EINVAL for O_DIRECT.
        """
        mode = self.attributes(path).mode
        if any(not mode & bits for bits in _wanted(flags)):
            raise failure(errno.EACCES, path)
        if flags & os.O_DIRECT:
            raise failure(errno.EINVAL, path)
        with self._lock:
            number = next(self._numbers)
        self._handles[number] = _Handle(path, flags)
        return number

    def read(self, number: int, size: int, offset: int) -> bytes:
        """A part of the text of an open file."""
        handle = self._handle(number)
        text = handle.text
        if offset == 0 or text is None:
            with errnos(handle.path):
                text = handle.text = self._tree.read(handle.path)
        return text[offset : offset + size]

    def write(self, number: int, data: bytes, offset: int) -> int:
        """One write(2), all of it in one request; how much was taken.  A pool that falls short is a success."""
        handle = self._handle(number)
        if handle.flags & os.O_APPEND:
            offset = handle.written
        if not handle.path.startswith("/proc/"):
            data = data[:MOST_OF_SYSFS]
        with errnos(handle.path):
            taken = self._tree.write(handle.path, data, offset)
        handle.written = offset + taken
        return taken

    def release(self, number: int) -> None:
        """The last close of a handle."""
        self._handles.pop(number, None)

    def _handle(self, number: int) -> _Handle:
        handle = self._handles.get(number)
        if handle is None:
            raise failure(errno.EBADF, "")
        return handle


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def _inode(path: str) -> int:
    return int.from_bytes(blake2b(path.encode(), digest_size=INODE_BYTES).digest(), "big") | 1


def _wanted(flags: int) -> list[int]:
    how = flags & os.O_ACCMODE
    readable, writable = 0o444, 0o222
    return {os.O_RDONLY: [readable], os.O_WRONLY: [writable]}.get(how, [readable, writable])


def may(attributes: Attributes, uid: int, gid: int, wanted: int) -> bool:
    """Whether a user has the permissions ``wanted`` (bits of access(2)) by the mode; root has all."""
    if uid == 0:
        return True
    shift = 6 if uid == attributes.uid else 3 if gid == attributes.gid else 0
    return (attributes.mode >> shift) & wanted == wanted
