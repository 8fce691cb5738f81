"""A crew of worker processes for one piece of work: many items, one function, all cores.

Processes and not threads: the engine is Python between its numpy passes, and a service that answers others
meanwhile must not wait for the interpreter's lock.  A worker lives as long as its lifeline, a pipe whose other
end only the parent holds: it closes when the work is cancelled, and when the parent dies in whatever way.
"""

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

Report = Callable[[int, int], None]  # how much is done, of how much
Work = Callable[[Any, Any, Report], Any]  # (shared, item, report) -> result; a function of a module
Step = tuple[int, tuple[int, int] | None, Any]  # number of an item; (done, of), or None and its result

CONTEXT = multiprocessing.get_context("forkserver")
ITEMS_AHEAD = 4  # a process: enough that none ever waits for its next item
MAX_PEAK_KIB = 512 << 10  # a process that had more is not used again: memory is seldom given back
NICENESS = 5  # who waits for an answer goes before who waits for a job


class WorkerDied(Exception):
    """A worker process ended before its item was done."""


class Crew:
    """Up to ``size`` processes that hold ``shared`` and do items; to be used as a context manager."""

    def __init__(self, size: int, shared: Any) -> None:
        self._lifeline_end, self._lifeline = CONTEXT.Pipe(duplex=False)
        self._reports, self._reports_end = CONTEXT.Pipe(duplex=False)
        self._ahead = size * ITEMS_AHEAD
        self._pool = ProcessPoolExecutor(
            size, CONTEXT, _begin, (self._lifeline_end, self._reports_end, shared)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no process behind: those still at work are ended, whatever they do."""
        if kind is not None:
            self.leave()
        self.close()

    def close(self) -> None:
        """End the processes once they have nothing to do any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for end in (self._lifeline_end, self._lifeline, self._reports, self._reports_end):
            end.close()

    def leave(self) -> None:
        """End the processes, whatever they do; nothing more comes of them."""
        self._lifeline.close()

    def fit(self) -> bool:
        """Whether its process can go on: one that waits may have been killed, or have taken much memory before."""
        try:
            return self._pool.submit(_peak_kib).result() <= MAX_PEAK_KIB
        except BrokenProcessPool:
            return False

    def each(
        self, work: Work, items: Sequence[Any], look_seconds: float, shared: Any = None
    ) -> Iterator[Step | None]:
        """Do ``work(shared, item, report)`` for all items; what was reported and finished, as it comes.

        ``shared``: sent with each item; without it, what the crew holds.

        Items are taken shortly before their turn comes, so that a sequence may make each when it is asked for it.
        None comes at least every ``look_seconds``: time to look whether the work is still wanted.

        Raises:
            WorkerDied: a process was killed, by want of memory for one.  Whatever ``work`` raises.
        """
        waiting: dict[Future[Any], int] = {}
        coming = enumerate(items)
        while True:
            for i, item in islice(coming, self._ahead - len(waiting)):
                waiting[self._pool.submit(_do, work, i, item, shared)] = i
            if not waiting:
                return
            done, _ = wait(waiting, look_seconds, FIRST_COMPLETED)
            while self._reports.poll():
                index, at, of = self._reports.recv()
                yield index, (at, of), None
            for future in done:
                yield waiting.pop(future), None, _result(future)
            yield None


def _result(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        raise WorkerDied("a worker process was killed; the machine may be short of memory") from None


# -- in the worker -----------------------------------------------------------------------------------------

_here: dict[str, Any] = {}


def _begin(lifeline: Connection, reports: Connection, shared: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    os.nice(NICENESS)
    threading.Thread(target=_live, args=(lifeline,), daemon=True).start()
    _here.update(reports=reports, shared=shared)


def _live(lifeline: Connection) -> None:
    """Nothing is ever sent: the wait ends when the other end is gone."""
    with suppress(OSError):
        lifeline.poll(None)
    os._exit(1)


def _peak_kib() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _do(work: Work, index: int, item: Any, shared: Any) -> Any:
    return work(_here["shared"] if shared is None else shared, item, partial(_report, index))


def _report(index: int, done: int, of: int) -> None:
    """One write of less than PIPE_BUF bytes: whole, whoever else writes."""
    _here["reports"].send((index, done, of))
