"""What the kernel asks of a FUSE file system, answered from a mirror.  Needs no libfuse: ``mirror.mount`` has it.

An operation answers, or raises OSError with the errno that the caller of the system call gets.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NoReturn

from hugepool.client import Refused, Unreachable
from hugepool.mirror.view import Mirror

KIND = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
SYSFS_SIZE = 4096  # what stat(2) says of a file in sysfs, whatever it holds; in proc it is 0


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
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except NotADirectoryError:
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    except IsADirectoryError:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None


def _refuse(number: int) -> Callable[..., NoReturn]:
    def operation(self: "HostFiles", path: str, *_: object) -> NoReturn:
        del self
        raise OSError(number, os.strerror(number), path)

    return operation


class HostFiles:
    """The operations, by the names that libfuse has for them.

    A file is read as in sysfs: the text is made when it is read from its beginning, and later parts are of the same
    text.  A write is one request, whatever its offset.
    """

    use_ns = True  # mfusepy: times in nanoseconds

    def __init__(self, mirror: Mirror, ready: Callable[[], object] = lambda: None) -> None:
        self._mirror = mirror
        self._ready = ready
        self._handles = count(1)
        self._texts: dict[int, bytes] = {}
        self._born_ns = time.time_ns()
        self._owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}

    def init(self, path: str) -> None:
        """The file system is mounted."""
        del path
        self._ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """stat(2)."""
        del fh
        with errnos(path):
            entry = self._mirror.entry(path)
        folder = entry.type == "directory"
        sizes = {"file": 0 if path.startswith("/proc/") else SYSFS_SIZE, "symlink": len(entry.target or "")}
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._born_ns)
        return {
            "st_mode": KIND[entry.type] | entry.mode,
            "st_nlink": 2 if folder else 1,
            "st_size": sizes.get(entry.type, 0),
            **self._owner,
            **times,
        }

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, int, int]]:
        """Names with their types, as ``d_type`` has them."""
        del fh
        with errnos(path):
            entries = self._mirror.entries(path)
        here = [(".", stat.S_IFDIR, 0), ("..", stat.S_IFDIR, 0)]
        return iter(here + [(name, KIND[entry.type], 0) for name, entry in entries.items()])

    def readlink(self, path: str) -> str:
        """Where a link leads."""
        with errnos(path):
            target = self._mirror.entry(path).target
        if target is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return target

    def open(self, path: str, flags: int) -> int:
        """A handle; EACCES for an access that the file's mode has for nobody, as in sysfs even for root."""
        with errnos(path):
            entry = self._mirror.entry(path)
        wanted = _wanted(flags)
        if any(not entry.mode & bits for bits in wanted):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return next(self._handles)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """A part of the text of the file."""
        if offset == 0 or fh not in self._texts:
            with errnos(path):
                self._texts[fh] = self._mirror.read(path)
        return self._texts[fh][offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """One write(2), all of it in one request; a pool that falls short is a success."""
        del offset, fh
        with errnos(path):
            self._mirror.write(path, data)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """``>`` of a shell: a file of the kernel has no length that could be cut."""
        del length, fh
        with errnos(path):
            self._mirror.entry(path)
        return 0

    def release(self, path: str, fh: int) -> int:
        """The last close of a handle."""
        del path
        self._texts.pop(fh, None)
        return 0

    create = _refuse(errno.EACCES)
    mknod = mkdir = unlink = rmdir = rename = symlink = link = chmod = chown = utimens = _refuse(errno.EPERM)


def _wanted(flags: int) -> list[int]:
    how = flags & os.O_ACCMODE
    readable, writable = 0o444, 0o222
    return {os.O_RDONLY: [readable], os.O_WRONLY: [writable]}.get(how, [readable, writable])
