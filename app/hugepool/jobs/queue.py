"""Jobs that wait for their turn: owners take turns, and each owner's jobs go in the order they came."""

from collections import OrderedDict, deque

from hugepool.jobs.job import Job


class FairQueue:
    """Who has many jobs waiting does not keep others from having their first one done.  Not safe for threads."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()

    def put(self, job: Job) -> None:
        """Wait."""
        self._waiting.setdefault(job.owner or "", deque()).append(job)

    def take(self) -> Job | None:
        """The next one whose turn it is; its owner is last from now on."""
        if not self._waiting:
            return None
        owner, jobs = self._waiting.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._waiting[owner] = jobs
        return job

    def drop(self, job: Job) -> None:
        """Wait no more."""
        jobs = self._waiting.get(job.owner or "")
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.owner or ""]
