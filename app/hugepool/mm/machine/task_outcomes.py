"""What commands on tasks answer."""

from dataclasses import dataclass, field
from typing import Any, Literal

from hugepool.mm.machine import state
from hugepool.mm.machine.mappings import HugeMap
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import VmemmapDelta
from hugepool.mm.machine.units import PAGE_SIZE, size_name


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """A memory policy.

    Attributes:
        mode: `default`, `bind`, `interleave`, `preferred` or `local`.
        nodes: the nodes that it names.
    """

    mode: str
    nodes: list[int]


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of huge pages, counted in huge pages.

    Attributes:
        map: its number within the task.
        size: the huge page size, as sysfs writes it.
        count: its length.
        touched: pages that were faulted in; of a shared mapping, those of the file in its range.
        reserved: pages that are still promised to it, or to the file in its range.
        shared: its pages are the file's.
        noreserve: nothing was promised to it.
        file: path of the file behind it; null: there is none, or it has no name.
        offset: its first page in the file.
    """

    map: int
    size: str
    count: int
    touched: int
    reserved: int
    shared: bool
    noreserve: bool
    file: str | None
    offset: int

    @classmethod
    def of(cls, host: state.Host, mapping: HugeMap) -> "Mapping":
        """The answer for a mapping."""
        file = None if mapping.file_id is None else host.files[mapping.file_id]
        touched, reserved = len(mapping.pages), mapping.promised
        if mapping.shared and file is not None:
            end = mapping.offset + mapping.count
            touched = sum(mapping.offset <= index < end for index in file.pages)
            reserved = file.resv.pages(mapping.offset, end) - touched
        return cls(
            map=mapping.map_id,
            size=size_name(mapping.order),
            count=mapping.count,
            touched=touched,
            reserved=reserved,
            shared=mapping.shared,
            noreserve=mapping.noreserve,
            file=None if file is None else file.path,
            offset=mapping.offset,
        )


@dataclass(frozen=True, slots=True)
class KilledTask:
    """A task that the OOM killer ended.

    Attributes:
        pages: its single pages of 4 KiB, those in swap included.
    """

    pid: int
    comm: str
    pages: int


@dataclass(frozen=True, slots=True)
class Task:
    """A process.

    Attributes:
        pid: its number.
        kind: what it was started for, such as `hugetlb`, `anon` or `kernel`; `cache` is page cache, and no process.
        comm: its name on the console.
        parent: the task that it was forked from.
        cgroup: the one that it is in; empty: the root.
        cpu: the CPU that it runs on.
        node: the node that its memory comes from; null: that of its CPU, as far as its policy has it.
        mlock: its memory is locked.
        pages: its single pages of 4 KiB.
        memory_bytes: the same in bytes.
        swapped_pages: those that were moved out to swap besides.
        maps: its mappings of huge pages, the oldest first.
    """

    pid: int
    kind: str
    comm: str
    parent: int | None
    cgroup: str
    policy: TaskPolicy
    cpu: int
    node: int | None
    mlock: bool
    pages: int
    memory_bytes: int
    swapped_pages: int
    maps: list[Mapping]

    @classmethod
    def of(cls, host: state.Host, task: state.Task) -> "Task":
        """The answer for a process."""
        pages = sum(count for _, count in task.runs)
        pages += sum(share.pages for share in host.cached if share.pid == task.pid)
        return cls(
            pid=task.pid,
            kind=task.kind,
            comm=task.comm,
            parent=task.parent,
            cgroup=task.cgroup,
            policy=TaskPolicy(task.policy_mode, list(task.policy_nodes)),
            cpu=task.cpu,
            node=task.node,
            mlock=task.mlock,
            pages=pages,
            memory_bytes=pages * PAGE_SIZE,
            swapped_pages=task.swapped,
            maps=[Mapping.of(host, mapping) for mapping in task.maps.values()],
        )


@dataclass(frozen=True, slots=True)
class StartedTask(Task):
    """A process just started, and what it could touch.  What has nothing to do with its kind is null.

    Attributes:
        map: the number of its mapping.
        touched: huge pages that were faulted in.
        signal: what stopped the touching; SIGKILL: the OOM killer ended the process as it began.
        reason: why.
        facts: what the reason is about, such as the cgroup and its limit.
        injected_fault: an armed fault point refused a request of it.
        reclaimed_pages: pages of 4 KiB that were given up for it: page cache, and memory that went to swap.
        compacted_blocks: pageblocks of 2 MiB that compaction emptied for it.
        oom: tasks that the OOM killer ended for it, in order.
    """

    map: int | None = None
    touched: int | None = None
    signal: Literal["SIGBUS", "SIGKILL"] | None = None
    reason: Reason | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    vmemmap: VmemmapDelta | None = None
    injected_fault: bool = False
    reclaimed_pages: int = 0
    compacted_blocks: int = 0
    oom: list[KilledTask] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Touched:
    """What touching a mapping of huge pages did.

    Attributes:
        touched: huge pages that were faulted in, or were there.
        signal: what stopped it.
        reason: why.
        facts: what the reason is about, such as the cgroup and its limit.
        injected_fault: an armed fault point refused a request of it.
        reclaimed_pages: pages of 4 KiB that were given up for it: page cache, and memory that went to swap.
        compacted_blocks: pageblocks of 2 MiB that compaction emptied for it.
    """

    pid: int
    map: int
    touched: int
    signal: Literal["SIGBUS"] | None
    reason: Reason | None
    facts: dict[str, Any]
    vmemmap: VmemmapDelta
    injected_fault: bool = False
    reclaimed_pages: int = 0
    compacted_blocks: int = 0


@dataclass(frozen=True, slots=True)
class UnmappedPages:
    """What munmap or madvise did, in huge pages.

    Attributes:
        freed: those that nobody has any more.
        queued: those that wait for the worker that frees them.
        injected_fault: an armed fault point refused a request of it.
    """

    pid: int
    map: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class ExitedTask:
    """What the end of a process did.

    Attributes:
        freed_pages: its single pages of 4 KiB.
        queued: huge pages that wait for the worker that frees them.
        injected_fault: an armed fault point refused a request of it.
    """

    pid: int
    freed_pages: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class TaskPages:
    """Single pages of 4 KiB that a task took or gave back.

    Attributes:
        reclaimed_pages: page cache that was given up for them, and anonymous memory that went to swap.
        oom: tasks that were killed for them, in order.
    """

    pid: int
    pages: int
    reclaimed_pages: int = 0
    oom: list[KilledTask] = field(default_factory=list)
