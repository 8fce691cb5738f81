"""What answers look like: tasks, deferred frees, faults, history, the service itself."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from hugepool.api.schemas import Fault, VmemmapDelta


class TaskPolicy(BaseModel):
    """A memory policy."""

    mode: str
    nodes: list[int]


class Mapping(BaseModel):
    """One mapping of huge pages."""

    map: int
    size: str
    count: int
    touched: int
    reserved: int
    shared: bool
    noreserve: bool
    file: str | None = Field(None, description="The file behind it; null: none, or one without a name.")
    offset: int = Field(0, description="Its first page in the file.")


class Task(BaseModel):
    """A process."""

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


class StartedTask(Task):
    """A process just started, and what it could touch."""

    touched: int | None = Field(None, description="Huge pages faulted in.")
    signal: Literal["SIGBUS"] | None = Field(None, description="What stopped the touching.")
    reason: str | None = Field(None, description="Why: see docs/http.md.")
    facts: dict[str, Any] = Field(
        {}, description="What the reason is about, such as the cgroup and its limit."
    )
    vmemmap: VmemmapDelta | None = None


class TaskPage(BaseModel):
    """A page of processes."""

    items: list[Task]
    next_cursor: str | None


class Touched(BaseModel):
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


class ExitedTask(BaseModel):
    """What the end of a process did."""

    pid: int
    freed_pages: int
    queued: int
    vmemmap: VmemmapDelta


class QueuedFree(BaseModel):
    """A huge page that waits for the worker."""

    pfn: int
    size: str


class DeferredFrees(BaseModel):
    """The queue of the worker."""

    mode: Literal["auto", "manual"]
    queued: list[QueuedFree] = Field(description="Oldest first; worked off from the other end.")


class DeferredMode(BaseModel):
    """Who works off the queue."""

    mode: Literal["auto", "manual"]


class Drained(BaseModel):
    """What a drain did, in huge pages."""

    freed: int
    returned_as_surplus: int
    vmemmap: VmemmapDelta
    queued: int


class FaultList(BaseModel):
    """All fault points."""

    items: list[Fault]


class Disarmed(BaseModel):
    """A fault point that is disarmed now."""

    point: str


class Event(BaseModel):
    """Something that happened to a host."""

    id: int
    revision: int
    time: str
    by: str | None = Field(
        description="Name of the token that was used; null without tokens, and for the worker."
    )
    type: str
    data: dict[str, Any]


class EventPage(BaseModel):
    """A piece of history."""

    items: list[Event]
    next_after: int = Field(description="For `after` of the next request.")


class Dmesg(BaseModel):
    """The console."""

    lines: list[str]


class Law(BaseModel):
    """One law, held against the host."""

    law: str
    ok: bool
    findings: list[str] = Field(description="What is wrong where; empty when the law holds.")
    known_defect: str | None = Field(None, description="The kernel's own defect behind the findings.")


class Audit(BaseModel):
    """All laws."""

    ok: bool
    laws: list[Law]


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
