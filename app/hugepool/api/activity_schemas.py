"""What answers look like: tasks, deferred frees, faults, history, the service itself."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from hugepool.api.schemas import Injected, VmemmapDelta
from hugepool.mm.machine.outcomes import Mapping, TaskPolicy


class StartedTask(Injected):
    """A process just started, and what it could touch."""

    pid: int
    kind: str
    comm: str
    parent: int | None = Field(None, description="The task that forked it.")
    cgroup: str = Field("", description="Below /sys/fs/cgroup; empty: the root.")
    policy: TaskPolicy
    node: int | None
    mlock: bool
    pages: int
    memory_bytes: int
    maps: list[Mapping]
    map: int | None = Field(None, description="The mapping.")
    touched: int | None = Field(None, description="Huge pages faulted in.")
    signal: Literal["SIGBUS"] | None = Field(None, description="What stopped the touching.")
    reason: str | None = Field(None, description="Why: see docs/http.md.")
    facts: dict[str, Any] = Field(
        {}, description="What the reason is about, such as the cgroup and its limit."
    )
    vmemmap: VmemmapDelta | None = None


class Touched(Injected):
    """What touching did."""

    pid: int
    map: int
    touched: int
    signal: Literal["SIGBUS"] | None
    reason: str | None = Field(None, description="Why: see docs/http.md.")
    facts: dict[str, Any] = Field(
        {}, description="What the reason is about, such as the cgroup and its limit."
    )
    vmemmap: VmemmapDelta


class ExitedTask(Injected):
    """What the end of a process did."""

    pid: int
    freed_pages: int
    queued: int
    vmemmap: VmemmapDelta


class DeferredMode(BaseModel):
    """Who works off the queue."""

    mode: Literal["auto", "manual"]


class Drained(Injected):
    """What a drain did, in huge pages."""

    freed: int
    returned_as_surplus: int
    vmemmap: VmemmapDelta
    queued: int


class Disarmed(BaseModel):
    """A fault point that is disarmed now."""

    point: str


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Every part is fit to work."""

    status: Literal["ok"]
    parts: dict[str, dict[str, Any]] = Field(description="database, migrations, worker: each with `ok`.")


class Version(BaseModel):
    """What this service is."""

    name: str
    version: str
    kernels: list[str]
