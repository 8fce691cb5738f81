"""What jobs look like.  For /openapi.json and tests: no answer is validated when sent."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class JobRow(BaseModel):
    """A job in a list."""

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int = Field(description="How much of it is done ...")
    total: int = Field(description="... of how much.")
    created_at: str
    ended_at: str | None


class Job(JobRow):
    """A job in full."""

    result: Any = Field(None, description="When it is done: what the request that began it asked for.")
    error: str | None = Field(None, description="When it has failed: why.")


class JobList(BaseModel):
    """All jobs of this process."""

    items: list[JobRow]
