"""Long work beside the service: in processes of its own, counted, and really stopped when it is cancelled."""

from app.jobs.board import Board, Limits, NoRoom, NoSuchJob
from app.jobs.crew import Report, Work
from app.jobs.job import Job, State

__all__ = ["Board", "Job", "Limits", "NoRoom", "NoSuchJob", "Report", "State", "Work"]
