"""Long work next to the service: in processes of its own, counted, and really stopped when it is cancelled."""

from hugepool.jobs.board import Board, Limits, NoRoom, NoSuchJob, Task
from hugepool.jobs.crew import Report, Work
from hugepool.jobs.job import Job, JobState, Refusal

__all__ = ["Board", "Job", "JobState", "Limits", "NoRoom", "NoSuchJob", "Refusal", "Report", "Task", "Work"]
