"""What the kernel knows of a mount: the files, folders and links that it has looked up.

A folder or link is one node as long as the kernel remembers it.  A file is a new node each time that it is looked up:
sendfile(2), splice(2) and mmap(2) read through the page cache, and the cache and the size of a node are its opener's
alone, so that no other reader changes them meanwhile.
"""

import threading
from dataclasses import dataclass, field
from itertools import count

from hugepool.mirror.operations import Attributes
from hugepool.mirror.protocol import ROOT_ID
from hugepool.mirror.view import MAX_FILE_BYTES

UNKNOWN_SIZE = MAX_FILE_BYTES  # of a file that was not read yet: a read beyond its end corrects it
NEVER = float("-inf")


@dataclass(slots=True)
class Node:
    """One of them.

    Attributes:
        size: what the kernel thinks that the file has, in bytes.
        text: what the page cache is filled from.
        announced_at: when a stat(2) was answered by ``text``, by the monotonic clock.
        filled_at: when the page cache was filled from ``text``.
        filling: held while it is filled.
    """

    number: int
    path: str
    is_file: bool
    size: int = UNKNOWN_SIZE
    text: bytes = b""
    announced_at: float = NEVER
    filled_at: float = NEVER
    lookups: int = 0
    filling: threading.Lock = field(default_factory=threading.Lock)


class Nodes:
    """All nodes, by number.  Safe to share between threads."""

    def __init__(self) -> None:
        root = Node(ROOT_ID, "/", is_file=False, lookups=1)
        self._by_number = {ROOT_ID: root}
        self._lasting = {"/": root}
        self._numbers = count(ROOT_ID + 1)
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> Node:
        return self._by_number[number]

    def look_up(self, path: str, attributes: Attributes) -> Node:
        """The node of a path, looked up once more."""
        with self._lock:
            node = None if attributes.is_file else self._lasting.get(path)
            if node is None:
                node = self._new(path, attributes)
            node.lookups += 1
            return node

    def _new(self, path: str, attributes: Attributes) -> Node:
        node = Node(next(self._numbers), path, attributes.is_file)
        if attributes.size is not None:
            node.size = attributes.size
        elif not attributes.mode & 0o444:
            node.size = 0
        self._by_number[node.number] = node
        if not attributes.is_file:
            self._lasting[path] = node
        return node

    def forget(self, number: int, lookups: int) -> None:
        """The kernel forgets so many look-ups of a node; with the last one it is gone."""
        with self._lock:
            node = self._by_number.get(number)
            if node is None or number == ROOT_ID:
                return
            node.lookups -= lookups
            if node.lookups <= 0:
                del self._by_number[number]
                if self._lasting.get(node.path) is node:
                    del self._lasting[node.path]
