"""Whether the parts that a service works with are fit for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """The database takes a write.

    Attributes:
        error: why it does not.
    """

    ok: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MigrationsHealth:
    """The database has the tables that this version of the service wants.

    Attributes:
        head: the newest migration that the service knows.
        current: the one of the database; null when that cannot be read.
    """

    ok: bool
    head: str | None
    current: str | None = None


@dataclass(frozen=True, slots=True)
class FailingHost:
    """A host whose last drain of deferred frees failed.

    Attributes:
        failures: how often in a row.
    """

    name: str
    failures: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """The worker for deferred frees gave a sign of life lately and can work, or is switched off.

    Attributes:
        failures: the hosts it fails on, which does not make it unfit.
        error: why it cannot work.
    """

    ok: bool
    enabled: bool
    failures: list[FailingHost]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service works with."""

    database: DatabaseHealth
    migrations: MigrationsHealth
    worker: WorkerHealth

    @property
    def unfit(self) -> list[str]:
        """Names of the parts that cannot work."""
        return [name for name in ("database", "migrations", "worker") if not getattr(self, name).ok]
