"""Every HUGEPOOL_* variable, with unit and default."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _words(value: Any) -> Any:
    """``a, b`` as a list of words."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


PREFIX = "HUGEPOOL_"
OF_CLIENTS = ("URL", "TOKEN")  # what commands that are clients read


class Settings(BaseSettings):
    """What can be set from outside: ``HUGEPOOL_PORT=9000`` sets ``port``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    database_url: str = Field(
        "sqlite:///hugepool.db",
        description="Address of the database: a SQLite file, or (extra `postgres`) `postgresql+psycopg://USER@HOST/NAME`.",
    )
    database_timeout_seconds: float = Field(
        10.0, gt=0, description="How long a write waits for other writers before it is refused as busy."
    )
    database_pool: int = Field(20, ge=2, description="Open database connections kept for requests.")
    host: str = Field("127.0.0.1", description="Address that the service listens on.")
    port: int = Field(
        8000, ge=0, le=65535, description="Port that the service listens on; 0 picks a free one."
    )
    tokens_file: Path | None = Field(
        None, description="File with who may do what; without it everybody may do everything."
    )
    init_dir: Path | None = Field(
        None,
        description="Folder of hosts to begin with: `*.json`, each the body of `POST /v1/hosts` or a list of them.",
    )
    allowed_hosts: Words = Field(
        (),
        description="Names of this service that `Host` may have, separated by commas; `*.example.org` for all below. "
        "Loopback names and the address listened on are always allowed.",
    )
    cors_origins: Words = Field(
        (),
        description="Origins whose pages may use this service, such as `https://ops.example.org`; commas between.",
    )
    cache_bytes: int = Field(
        1 << 30,
        ge=0,
        description="Memory for loaded hosts, in bytes. Those in use count: others wait until there is room.",
    )
    hosts: int = Field(10_000, ge=1, description="Most hosts kept; more are refused with 507.")
    snapshots: int = Field(16, ge=0, description="Most snapshots of one host; more are refused with 507.")
    host_wait_seconds: float = Field(
        10.0,
        gt=0,
        description="How long a request waits for a host that others use before it is answered with 503.",
    )
    threads_per_host: int = Field(
        4,
        ge=1,
        le=32,
        description="Requests about one host at work or waiting in a thread; others queue without one.",
    )
    max_json_bytes: int = Field(
        4 << 20, ge=1, description="Largest JSON body, in bytes; larger ones are answered with 413."
    )
    max_body_bytes: int = Field(
        64 << 20,
        ge=1,
        description="Largest body that may hold the files of a machine (`POST /v1/hosts`, `/v1/hosts/import`, "
        "`/v1/what-if`), in bytes.",
    )
    bodies_bytes: int = Field(
        256 << 20,
        ge=1,
        description="All request bodies being read or worked on, in bytes; more are answered with 503.",
    )
    body_seconds: float = Field(
        60.0, gt=0, description="How long a client may take to send a body before it is answered with 408."
    )
    header_seconds: float = Field(
        10.0,
        gt=0,
        description="How long a client may take to send a request's head before it is disconnected.",
    )
    send_seconds: float = Field(
        60.0, gt=0, description="How long a client may stop reading its answer before it is disconnected."
    )
    connections: int = Field(
        1000, ge=1, description="Most open connections; more are answered with 503 and closed."
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
    events_kept: int = Field(20_000, ge=1, description="Events kept of each host; older ones are deleted.")
    history_rows: int = Field(
        100_000, ge=1, description="Revisions of each host whose figures are kept for its history."
    )
    metrics_hosts: int = Field(
        1000,
        ge=0,
        description="Hosts with series at `/metrics`, the first by name; the others are counted there.",
    )
    maintenance_seconds: float = Field(
        60.0, gt=0, description="How often old rows are deleted and the database file is kept small."
    )
    events_poll_seconds: float = Field(
        0.5, gt=0, description="How often an open event stream looks for events of other processes (SQLite)."
    )
    job_workers: int = Field(0, ge=0, le=256, description="Processes that work on one job; 0: one a core.")
    job_seconds: float = Field(600.0, gt=0, description="How long a job may work before it is ended.")
    jobs_at_once: int = Field(2, ge=1, le=64, description="Jobs at work at the same time; others wait.")
    jobs_unfinished: int = Field(
        1000, ge=1, description="Jobs at work or waiting; more are refused with 503. The callers take turns."
    )
    jobs_per_token: int = Field(
        100,
        ge=1,
        description="Those of one token; more are refused with 503. Without tokens there is no such limit.",
    )
    jobs_kept: int = Field(100, ge=1, description="Jobs remembered that have ended.")
    job_kept_seconds: float = Field(
        3600.0, gt=0, description="How long the result of a job can be fetched after its end."
    )
    what_if_wait_seconds: float = Field(
        5.0, gt=0, description="How long a what-if question is waited for before it is answered with its job."
    )
    shutdown_seconds: int = Field(
        10,
        ge=0,
        description="How long a stopping service lets open requests go on; the log says what was cut.",
    )
    log_level: str = Field(
        "INFO",
        pattern="^(?i:critical|error|warning|info|debug|trace)$",
        description="Least important level that is logged.",
    )


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """A sentence for each variable that looks as if it were read here and is not, with the one that may be meant."""
    known = [PREFIX + name.upper() for name in (*Settings.model_fields, *OF_CLIENTS)]
    strange = sorted(
        name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known
    )
    return [f"{name} is no setting of hugepool{_meant(name.upper(), known)}" for name in strange]


def _meant(name: str, known: Sequence[str]) -> str:
    own = [each.removeprefix(PREFIX) for each in known]  # the prefix, which all share, says nothing
    close = get_close_matches(name.removeprefix(PREFIX), own, n=1, cutoff=0.5)
    return f"; did you mean {PREFIX}{close[0]}?" if close else ""


def described() -> Iterator[tuple[str, str, str]]:
    """Every variable of a service: its name, its default, and what it is."""
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default is None or default == () else str(default)
        yield PREFIX + name.upper(), shown, field.description or ""
