"""Loaded hosts kept in memory, and the locks that let one thread at a time use a host."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from hugepool.store.errors import WouldWait
from hugepool.store.hosts import Loaded


class HostCache:
    """The most recently used hosts, up to a number of bytes; the very last one is always kept."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._hosts: OrderedDict[str, Loaded] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, name: str, host_id: int, revision: int) -> Loaded | None:
        """The host of a name, if it is kept and of this very revision."""
        with self._guard:
            loaded = self._hosts.get(name)
            if loaded is None or (loaded.host_id, loaded.revision) != (host_id, revision):
                return None
            self._hosts.move_to_end(name)
            return loaded

    def peek(self, name: str) -> Loaded | None:
        """The host of a name, if it is kept, whatever its revision."""
        with self._guard:
            return self._hosts.get(name)

    def put(self, loaded: Loaded) -> None:
        """Keep a host; the least recently used ones make room."""
        with self._guard:
            self._hosts[loaded.name] = loaded
            self._hosts.move_to_end(loaded.name)
            used = sum(host.nbytes for host in self._hosts.values())
            while used > self._limit_bytes and len(self._hosts) > 1:
                _, oldest = self._hosts.popitem(last=False)
                used -= oldest.nbytes

    def drop(self, name: str) -> None:
        """Throw a host away; the next use loads its rows."""
        with self._guard:
            self._hosts.pop(name, None)


class HostLocks:
    """One lock a name, there only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, list[int]]] = {}

    @contextmanager
    def holding(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Alone with the host of a name, in this process.  Without ``wait``: WouldWait where another has it."""
        with self._guard:
            lock, users = self._locks.setdefault(name, (threading.Lock(), [0]))
            users[0] += 1
        try:
            if not lock.acquire(blocking=wait):
                raise WouldWait
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                users[0] -= 1
                if users[0] == 0:
                    del self._locks[name]
