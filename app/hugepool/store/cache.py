"""Loaded hosts kept in memory within a number of bytes, and the locks that let one thread at a time use a host."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from hugepool.store.errors import Busy, WouldWait
from hugepool.store.hosts import Loaded


class HostCache:
    """The most recently used hosts, up to a number of bytes in all.

    Hosts in use count too: who needs room for another one waits until enough of them are put back.  A host that is
    larger than the limit gets in when no other is in use.
    """

    def __init__(self, limit_bytes: int, wait_seconds: float) -> None:
        self._limit_bytes = limit_bytes
        self._wait_seconds = wait_seconds
        self._hosts: OrderedDict[str, Loaded] = OrderedDict()
        self._bytes: dict[str, int] = {}
        self._used_bytes = 0
        self._in_use: Counter[str] = Counter()
        self._changed = threading.Condition()

    @property
    def used_bytes(self) -> int:
        """Memory of all hosts that are kept or in use."""
        return self._used_bytes

    def get(self, name: str, host_id: int, revision: int) -> Loaded | None:
        """The host of a name, if it is kept and of this very revision."""
        with self._changed:
            loaded = self._hosts.get(name)
            if loaded is None or (loaded.host_id, loaded.revision) != (host_id, revision):
                return None
            self._hosts.move_to_end(name)
            return loaded

    def peek(self, name: str) -> Loaded | None:
        """The host of a name, if it is kept, whatever its revision."""
        with self._changed:
            return self._hosts.get(name)

    def put(self, loaded: Loaded) -> None:
        """Keep a host; the least recently used ones make room."""
        nbytes = loaded.nbytes
        with self._changed:
            self._hosts[loaded.name] = loaded
            self._hosts.move_to_end(loaded.name)
            self._account(loaded.name, nbytes)
            self._evict(0, keep=loaded.name)

    def drop(self, name: str) -> None:
        """Throw a host away; the next use loads its rows."""
        with self._changed:
            self._forget(name)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """While a host is in use it is not thrown out for others."""
        with self._changed:
            self._in_use[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_use[name] -= 1
                if not self._in_use[name]:
                    del self._in_use[name]
                    self._settle(name)
                self._changed.notify_all()

    def make_room(self, name: str, nbytes: int) -> None:
        """Take room for a host that is about to be loaded or made, within ``using``.

        Raises:
            Busy: other hosts in use had the room for longer than callers wait.
        """
        deadline = time.monotonic() + self._wait_seconds
        with self._changed:
            self._forget(name)
            while not self._evict(nbytes, keep=name) and self._others_in_use(name):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Busy("the hosts in use right now take all the memory there is for hosts")
            self._account(name, nbytes)

    # -- inside, with the condition held --------------------------------------------------------------------

    def _account(self, name: str, nbytes: int) -> None:
        self._used_bytes += nbytes - self._bytes.get(name, 0)
        self._bytes[name] = nbytes

    def _forget(self, name: str) -> None:
        self._hosts.pop(name, None)
        self._used_bytes -= self._bytes.pop(name, 0)

    def _settle(self, name: str) -> None:
        """Room that was taken for a host that did not come is given back."""
        if name not in self._hosts:
            self._forget(name)

    def _evict(self, nbytes: int, keep: str) -> bool:
        """Throw hosts out until ``nbytes`` more fit, the least recently used first; whether they do."""
        if self._used_bytes + nbytes <= self._limit_bytes:
            return True
        for name in [name for name in self._hosts if name != keep and name not in self._in_use]:
            self._forget(name)
            if self._used_bytes + nbytes <= self._limit_bytes:
                return True
        return False

    def _others_in_use(self, name: str) -> bool:
        return any(other != name for other in self._bytes)


class HostLocks:
    """One lock a name, there only while somebody holds or awaits it."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, list[int]]] = {}

    @contextmanager
    def holding(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Alone with the host of a name, in this process.

        Raises:
            Busy: another has had it for longer than callers wait.
            WouldWait: another has it, and the caller does not ``wait``.
        """
        with self._guard:
            lock, users = self._locks.setdefault(name, (threading.Lock(), [0]))
            users[0] += 1
        try:
            if not lock.acquire(timeout=self._wait_seconds if wait else 0):
                raise Busy(f"host {name!r} is in use by a request that takes long") if wait else WouldWait
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                users[0] -= 1
                if users[0] == 0:
                    del self._locks[name]
