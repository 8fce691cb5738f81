"""Jobs of this process: submitted, looked up, waited for, cancelled.  None survives a restart.

A job that has ended is kept for a while, up to a number; one at work is never forgotten.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hugepool.jobs.crew import CONTEXT, Crew, Report, Work, WorkerDied
from hugepool.jobs.job import Job, JobState
from hugepool.jobs.queue import FairQueue
from hugepool.jobs.warm import WarmCrews

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
    those that wait, ``each`` of them of one owner, ``held_bytes`` in memory in all.  ``kept``: jobs remembered that
    have ended.  ``kept_seconds``: after their end.  ``seconds``: of work.
    """

    workers: int = 0
    at_once: int = 2
    unfinished: int = 1000
    each: int = 100
    held_bytes: int = 64 << 20
    kept: int = 100
    kept_seconds: float = 3600.0
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a job has to do, in processes of its own.

    Attributes:
        work: a function of a module, called as ``work(shared, item, report)``.  ``report(done, of)`` may be called,
            for items that take long.  A refusal is a result like any other: what is raised is taken for a bug.
        shared: what all items need; sent once to each process.
        finish: makes the job's result of the items' results, in their order; here, in a thread.
        is_last: whether a result makes those of all other items unnecessary: ``finish`` gets it alone.
    """

    work: Work
    shared: Any
    items: Sequence[Any]
    finish: Callable[[list[Any]], Any]
    is_last: Callable[[Any], bool] = lambda _: False


Make = Callable[[], Task]
Act = Callable[[Report], Any]


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
        self._orders: dict[str, Make] = {}  # of those that wait
        self._queue = FairQueue()
        self._guard = threading.Lock()
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="job")
        self._warm = WarmCrews(limits.at_once)
        self._here = ThreadPoolExecutor(limits.at_once, thread_name_prefix="long-change")
        CONTEXT.set_forkserver_preload(list(preload))

    def submit(self, kind: str, make: Make, nr_items: int = 1, **more: Any) -> Job:
        """Have a task done once it is this job's turn; ``make`` is called then, so that nothing is held before.

        Args:
            kind: one word that says what it is.
            nr_items: how many items the task will have, for those who look meanwhile.
            more: ``owner``, ``nbytes`` and ``about`` of the job.

        Raises:
            NoRoom: ``limits`` allow no more jobs at work or waiting.
        """
        job = Job(kind, nr_items, self._clock, **more)
        self._enter(job, make)
        self._threads.submit(self._run_next)
        return job

    def submit_here(self, kind: str, act: Act, **more: Any) -> Job:
        """Have ``act(report)`` done in a thread of this process; it does not wait behind tasks of processes.

        ``report`` ends it when it is not wanted any more.  Raises NoRoom.
        """
        job = Job(kind, 1, self._clock, **more)
        self._enter(job, None)
        self._here.submit(self._end, job, lambda deadline: self._acted(job, act, deadline))
        return job

    def _enter(self, job: Job, make: Make | None) -> None:
        with self._guard:
            self._forget_old()
            self._check_room(job)
            self._jobs[job.id] = job
            if make is not None:
                self._orders[job.id] = make
                self._queue.put(job)

    def _check_room(self, job: Job) -> None:
        unfinished = [known for known in self._jobs.values() if not known.final]
        if len(unfinished) >= self.limits.unfinished:
            raise NoRoom(f"{len(unfinished)} jobs are at work or wait already")
        if (
            job.owner is not None
            and sum(known.owner == job.owner for known in unfinished) >= self.limits.each
        ):
            raise NoRoom(f"{self.limits.each} jobs of {job.owner!r} are at work or wait already")
        if unfinished and sum(known.nbytes for known in unfinished) + job.nbytes > self.limits.held_bytes:
            raise NoRoom("the questions that wait take all the memory there is for them")

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
            self._orders.pop(job_id, None)  # one that waits lets go of what it holds
            self._queue.drop(job)
        return job

    def close(self) -> None:
        """Cancel everything, and wait until nothing is left of it."""
        for job in self.all():
            if not job.final:
                log.warning("the stop cut the job %s (%s)", job.id, job.kind)
            job.cancel()
        self._threads.shutdown(wait=True)
        self._here.shutdown(wait=True)
        self._warm.close()

    def _forget_old(self) -> None:
        before = self._clock() - self.limits.kept_seconds
        ended = [job for job in self._jobs.values() if job.ended is not None]
        old = [job for job in ended if job.ended is not None and job.ended < before]
        surplus = max(0, len(ended) - self.limits.kept)
        for job in {*old, *ended[:surplus]}:
            del self._jobs[job.id]

    # -- at work -------------------------------------------------------------------------------------------

    def _run_next(self) -> None:
        with self._guard:
            job = self._queue.take()
            make = self._orders.pop(job.id, None) if job is not None else None
        if job is not None and make is not None:
            self._end(job, lambda deadline: self._made(job, make, deadline))

    def _end(self, job: Job, result: Callable[[float], Any]) -> None:
        """Bring a job to its end, whatever comes."""
        if job.final:
            return
        job.become(JobState.RUNNING)
        deadline = time.monotonic() + self.limits.seconds
        try:
            self._check(job, deadline)
            job.become(JobState.DONE, result=result(deadline))
        except _Stop as stop:
            why = str(stop)
            job.become(JobState.FAILED if why else JobState.CANCELLED, error=why or None)
        except WorkerDied as died:
            job.become(JobState.FAILED, error=str(died))
        except Exception:  # a bug of the work: whoever asks gets it, and the log has its cause
            log.exception("job %s (%s) failed", job.id, job.kind)
            job.become(JobState.FAILED, error="hugepool failed here; the log of the service has the story")

    def _made(self, job: Job, make: Make, deadline: float) -> Any:
        task = make()
        job.expect(len(task.items))
        return task.finish(self._results(job, task, deadline))

    def _acted(self, job: Job, act: Act, deadline: float) -> Any:
        def report(done: int, of: int) -> None:
            job.advance(0, (done, of))
            self._check(job, deadline)

        return act(report)

    def _results(self, job: Job, task: Task, deadline: float) -> list[Any]:
        """The items' results; a single item goes to a process that waits for one."""
        if len(task.items) == 1:
            with self._warm.one() as crew:
                return self._worked(job, task, deadline, crew, task.shared)
        size = min(self.limits.workers or os.cpu_count() or 1, len(task.items))
        with Crew(max(1, size), task.shared) as crew:
            return self._worked(job, task, deadline, crew, None)

    def _worked(self, job: Job, task: Task, deadline: float, crew: Crew, shared: Any) -> list[Any]:
        results: list[Any] = [None] * len(task.items)
        for step in crew.each(task.work, task.items, LOOK_SECONDS, shared):
            if step is None:
                self._check(job, deadline)
                continue
            index, at, result = step
            if at is None:
                results[index] = result
                if len(results) > 1 and task.is_last(result):
                    crew.leave()
                    return [result]
            job.advance(index, at)
        return results

    def _check(self, job: Job, deadline: float) -> None:
        if job.unwanted:
            raise _Stop
        if time.monotonic() > deadline:
            raise _Stop(f"it took longer than {self.limits.seconds:g} seconds")
