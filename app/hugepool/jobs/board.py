"""Jobs of this process: submitted, looked up, waited for, cancelled.  None survives a restart.

A job that has ended is kept for a while, and only so many are; one at work is never forgotten.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hugepool.jobs.crew import CONTEXT, Crew, Work, WorkerDied
from hugepool.jobs.job import Job, State

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.1  # how soon a cancelled job notices


class NoSuchJob(LookupError):
    """No job of this number."""


class NoRoom(Exception):
    """Too many jobs wait already."""


class _Stop(Exception):
    """Ends the work on a job; its text is why, empty when it was cancelled."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and how long.

    ``workers``: processes of one job, 0 takes all cores.  ``at_once``: jobs at work.  ``unfinished``: these and
    those that wait.  ``kept``: jobs remembered.  ``kept_seconds``: after their end.  ``seconds``: of work.
    """

    workers: int = 0
    at_once: int = 2
    unfinished: int = 20
    kept: int = 100
    kept_seconds: float = 3600.0
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class _Order:
    """What ``Board.submit`` was given."""

    work: Work
    shared: Any
    items: Sequence[Any]
    finish: Callable[[list[Any]], Any]


class Board:
    """All jobs of this process.

    ``preload``: modules that the workers need, imported once for all of them.
    """

    def __init__(
        self, limits: Limits, preload: Sequence[str] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._jobs: dict[str, Job] = {}  # in order of submission
        self._waiting: dict[str, _Order] = {}
        self._guard = threading.Lock()
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="job")
        CONTEXT.set_forkserver_preload(list(preload))

    def submit(
        self, kind: str, work: Work, shared: Any, items: Sequence[Any], finish: Callable[[list[Any]], Any]
    ) -> Job:
        """Have ``work(shared, item, report)`` done for every item, in processes of its own.

        Args:
            kind: one word that says what it is.
            work: a function of a module.  ``report(done, of)`` may be called, for items that take long.  A
                refusal is a result like any other: what is raised is taken for a bug.
            shared: what all items need; sent once to each process.
            finish: makes the job's result of the items' results, in their order; here, in a thread.

        Raises:
            NoRoom: ``limits.unfinished`` jobs are at work or wait.
        """
        job = Job(kind, len(items), self._clock)
        with self._guard:
            self._forget_old()
            unfinished = sum(not known.final for known in self._jobs.values())
            if unfinished >= self.limits.unfinished:
                raise NoRoom(f"{unfinished} jobs are at work or wait already")
            self._jobs[job.id] = job
            self._waiting[job.id] = _Order(work, shared, items, finish)
        self._threads.submit(self._run, job)
        return job

    def get(self, job_id: str) -> Job:
        """The job of a number.  Raises NoSuchJob."""
        with self._guard:
            self._forget_old()
            if job_id not in self._jobs:
                raise NoSuchJob(job_id)
            return self._jobs[job_id]

    def all(self) -> list[Job]:
        """Every job, oldest first."""
        with self._guard:
            self._forget_old()
            return list(self._jobs.values())

    def delete(self, job_id: str, timeout_seconds: float = 30.0) -> Job:
        """Cancel a job that has not ended, wait until no process works on it, and forget it.

        Raises NoSuchJob.
        """
        job = self.get(job_id)
        job.cancel()
        job.wait(timeout_seconds)
        with self._guard:
            self._jobs.pop(job_id, None)
            self._waiting.pop(job_id, None)  # one that waits lets go of what it holds
        return job

    def close(self) -> None:
        """Cancel everything, and wait until nothing is left of it."""
        for job in self.all():
            job.cancel()
        self._threads.shutdown(wait=True)

    def _forget_old(self) -> None:
        before = self._clock() - self.limits.kept_seconds
        ended = [job for job in self._jobs.values() if job.ended is not None]
        old = [job for job in ended if job.ended is not None and job.ended < before]
        surplus = max(0, len(self._jobs) - self.limits.kept)
        for job in {*old, *ended[:surplus]}:
            del self._jobs[job.id]

    # -- at work -------------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        with self._guard:
            order = self._waiting.pop(job.id, None)
        if order is None:
            return
        try:
            job.become(State.DONE, result=order.finish(self._results(job, order)))
        except _Stop as stop:
            why = str(stop)
            job.become(State.FAILED if why else State.CANCELLED, error=why or None)
        except WorkerDied as died:
            job.become(State.FAILED, error=str(died))
        except Exception:  # a bug of the work: told to whoever asks, with the story in the log
            log.exception("job %s (%s) failed", job.id, job.kind)
            job.become(State.FAILED, error="hugepool failed here; the log of the service has the story")

    def _results(self, job: Job, order: _Order) -> list[Any]:
        job.become(State.RUNNING)
        deadline = time.monotonic() + self.limits.seconds
        self._check(job, deadline)
        results: list[Any] = [None] * len(order.items)
        size = min(self.limits.workers or os.cpu_count() or 1, len(order.items))
        with Crew(max(1, size), order.shared) as crew:
            for step in crew.each(order.work, order.items, LOOK_SECONDS):
                if step is None:
                    self._check(job, deadline)
                    continue
                index, at, result = step
                if at is None:
                    results[index] = result
                job.advance(index, at)
        return results

    def _check(self, job: Job, deadline: float) -> None:
        if job.unwanted:
            raise _Stop
        if time.monotonic() > deadline:
            raise _Stop(f"it took longer than {self.limits.seconds:g} seconds")
