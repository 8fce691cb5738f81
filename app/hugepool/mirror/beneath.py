"""Writing below one folder, and nowhere else.

Every step goes from an open folder to a name in it and follows no link, so that neither a link that lies there nor
one that somebody puts there meanwhile leads away.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PRIVATE = 0o600  # until all of a file is written


class OpenFolder:
    """A folder that is open; ``open_folder`` and ``below`` make one.

    Names are single names, without ``/``.  Every method raises OSError.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @contextmanager
    def below(self, name: str) -> Iterator[Self]:
        """The folder ``name`` in this one, made when it is missing."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=self._descriptor)
        with _opened(os.open(name, FOLDER, dir_fd=self._descriptor)) as descriptor:
            yield type(self)(descriptor)

    def write(self, name: str, content: bytes, mode: int) -> None:
        """A new file, in place of what has the name."""
        self.remove(name)
        with _opened(os.open(name, NEW_FILE, PRIVATE, dir_fd=self._descriptor)) as descriptor:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            os.fchmod(descriptor, mode)

    def link(self, name: str, target: str) -> None:
        """A new symlink, in place of what has the name."""
        self.remove(name)
        os.symlink(target, name, dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file or link, if there is one; of a link, never what it leads to."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def remove_all(self, name: str) -> None:
        """Remove a folder with all in it, if there is one; refuses a link."""
        with suppress(FileNotFoundError):
            shutil.rmtree(name, dir_fd=self._descriptor)


@contextmanager
def open_folder(path: Path) -> Iterator[OpenFolder]:
    """The folder at a path that the user chose; links on the way to it are the user's own."""
    with _opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        yield OpenFolder(descriptor)


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
