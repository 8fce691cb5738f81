"""Every HUGEPOOL_* variable, with unit and default."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What can be set from outside: ``HUGEPOOL_PORT=9000`` sets ``port``."""

    model_config = SettingsConfigDict(env_prefix="HUGEPOOL_", frozen=True)

    database_url: str = Field(
        "sqlite:///hugepool.db", description="SQLAlchemy address of the database; a SQLite file by default."
    )
    database_timeout_seconds: float = Field(
        10.0, gt=0, description="How long a write waits for other writers before it is refused as busy."
    )
    database_pool: int = Field(20, ge=2, description="Open database connections kept for requests.")
    host: str = Field("127.0.0.1", description="Address that the service listens on.")
    port: int = Field(
        8000, ge=0, le=65535, description="Port that the service listens on; 0 picks a free one."
    )
    cache_bytes: int = Field(
        1 << 30, ge=0, description="Memory for hosts kept loaded, in bytes; the one in use is always kept."
    )
    max_body_bytes: int = Field(
        64 << 20, ge=1, description="Largest request body, in bytes; larger ones are answered with 413."
    )
    idempotency_hours: float = Field(
        24.0, gt=0, description="How long a stored answer is given again for its Idempotency-Key."
    )
    worker_enabled: bool = Field(True, description="Whether this process runs the deferred-free worker.")
    worker_poll_seconds: float = Field(
        2.0, gt=0, description="How often the worker looks for work that other processes queued."
    )
    worker_claim_seconds: float = Field(
        60.0,
        gt=0,
        description="After this time another process may take over a host from a worker that died.",
    )
    worker_backoff_seconds: float = Field(
        1.0,
        gt=0,
        description="Pause after a host's first failed drain; it doubles with each, up to 5 minutes.",
    )
    events_poll_seconds: float = Field(
        0.5, gt=0, description="How often an open event stream looks for events of other processes."
    )
    job_workers: int = Field(0, ge=0, le=256, description="Processes that work on one job; 0: one a core.")
    job_seconds: float = Field(600.0, gt=0, description="How long a job may work before it is ended.")
    jobs_at_once: int = Field(2, ge=1, le=64, description="Jobs at work at the same time; others wait.")
    jobs_unfinished: int = Field(20, ge=1, description="Jobs at work or waiting; more are refused with 503.")
    jobs_kept: int = Field(100, ge=1, description="Jobs remembered, those that have ended included.")
    job_kept_seconds: float = Field(
        3600.0, gt=0, description="How long the result of a job can be fetched after its end."
    )
    what_if_wait_seconds: float = Field(
        5.0, gt=0, description="How long a what-if question is waited for before it is answered with its job."
    )
    shutdown_seconds: int = Field(
        3, ge=0, description="How long a stopping service waits for open answers, event streams for one."
    )
    log_level: str = Field(
        "INFO",
        pattern="^(?i:critical|error|warning|info|debug|trace)$",
        description="Least important level that is logged.",
    )
