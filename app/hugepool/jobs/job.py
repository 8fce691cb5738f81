"""One piece of long work: where it stands, and waiting for it."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The result of a job that came to its end without an answer, as what it was asked for is refused.

    Attributes:
        error: errno, detail, reason, facts.
    """

    error: dict[str, Any]


class Job:
    """One piece of long work.  Any thread may read it and wait for it; only the board changes it.

    ``created``, ``ended``: seconds of the board's clock.  ``error``: why it failed, in a sentence.
    ``news``: how often something changed.  ``owner``: who asked for it, None where there are no tokens.
    ``nbytes``: about what it holds in memory while it waits.  ``about``: whatever the caller wants to find again.
    """

    def __init__(
        self,
        kind: str,
        nr_items: int,
        clock: Callable[[], float],
        *,
        owner: str | None = None,
        nbytes: int = 0,
        about: Any = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.kind = kind
        self.owner = owner
        self.nbytes = nbytes
        self.about = about
        self.state = JobState.QUEUED
        self._clock = clock
        self.created = clock()
        self.ended: float | None = None
        self.result: Any = None
        self.error: str | None = None
        self.news = 0
        self._steps = [(0, 1)] * nr_items
        self._changed = threading.Condition(threading.RLock())
        self._unwanted = threading.Event()
        self._at_end: list[Callable[[], None]] = []

    @property
    def final(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in FINAL

    def progress(self) -> tuple[int, int]:
        """How much is done, of how much: items, or what the work itself counts."""
        with self._changed:
            return sum(done for done, _ in self._steps), sum(of for _, of in self._steps)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        with self._changed:
            return self._changed.wait_for(lambda: self.final, timeout_seconds)

    def when_final(self, call: Callable[[], None]) -> None:
        """Have ``call`` called at the end, in whatever thread that comes; at once when it has come."""
        with self._changed:
            if not self.final:
                self._at_end.append(call)
                return
        call()

    def expect(self, nr_items: int) -> None:
        """How many items there are, known only now that the work begins."""
        with self._changed:
            self._steps = [(0, 1)] * nr_items

    def wait_news(self, known: int, timeout_seconds: float) -> int:
        """Wait until there are more news than the ``known`` ones; how many there are."""
        with self._changed:
            self._changed.wait_for(lambda: self.news != known, timeout_seconds)
            return self.news

    @property
    def unwanted(self) -> bool:
        """Whether it was cancelled; whoever works on it looks here and stops."""
        return self._unwanted.is_set()

    def become(self, state: JobState, *, result: Any = None, error: str | None = None) -> None:
        """Enter a state; what is final stays."""
        with self._changed:
            if self.final:
                return
            self.state, self.result, self.error = state, result, error
            if state in FINAL:
                self.ended = self._clock()
            self._tell()
            calls = self._at_end if state in FINAL else []
        for call in calls:
            call()

    def cancel(self) -> None:
        """Ask for its end; it is cancelled at once when nobody works on it yet."""
        self._unwanted.set()
        with self._changed:
            if self.state == JobState.QUEUED:
                self.become(JobState.CANCELLED)

    def advance(self, index: int, step: tuple[int, int] | None) -> None:
        """Note how far an item is; None: it is done."""
        with self._changed:
            of = self._steps[index][1]
            self._steps[index] = step or (of, of)
            self._tell()

    def _tell(self) -> None:
        self.news += 1
        self._changed.notify_all()
