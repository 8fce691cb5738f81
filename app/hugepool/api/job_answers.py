"""What is answered of jobs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hugepool import jobs
from hugepool.jobs import JobState
from hugepool.mm.machine.outcomes import shallow


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list.

    Attributes:
        done: how much of it is done ...
        total: ... of how much.
    """

    id: str
    kind: str
    state: JobState
    done: int
    total: int
    created_at: str
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class Job(JobRow):
    """A job in full.

    Attributes:
        result: when it is done: what the request that began it asked for.
        error: when it has failed: why.
    """

    result: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class JobList:
    """All jobs of this process."""

    items: list[JobRow]


def row(job: jobs.Job) -> JobRow:
    """A job without its result."""
    done, total = job.progress()
    ended_at = None if job.ended is None else _time(job.ended)
    return JobRow(job.id, job.kind, job.state, done, total, _time(job.created), ended_at)


def whole(job: jobs.Job) -> Job:
    """A job with its result."""
    result = getattr(job.result, "result", job.result)  # of a long change: what its answer has
    return Job(**shallow(row(job)), result=result, error=job.error)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
