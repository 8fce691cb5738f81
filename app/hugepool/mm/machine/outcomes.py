"""Answers that commands and readers share, as plain data.

The API, the client's types and /openapi.json take names, types and descriptions from these classes and from those
of ``mm.views``: a field is declared here once (docs/decisions/0014-answers-are-dataclasses.md).
"""

from dataclasses import dataclass

from hugepool.mm.machine import state
from hugepool.mm.machine.fault_inject import FaultAttr, FaultPoint
from hugepool.mm.machine.mappings import HugeMap
from hugepool.mm.machine.units import PAGE_SIZE, size_name

# -- tasks -----------------------------------------------------------------------------------------------


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
class Task:
    """A process.

    Attributes:
        pid: its number.
        kind: what it was started for, such as `hugetlb`, `anon` or `kernel`.
        comm: its name on the console.
        parent: the task that it was forked from.
        cgroup: the one that it is in; empty: the root.
        node: the node that it runs on; null: that of its CPU.
        mlock: its memory is locked.
        pages: its single pages of 4 KiB.
        memory_bytes: the same in bytes.
        maps: its mappings of huge pages, the oldest first.
    """

    pid: int
    kind: str
    comm: str
    parent: int | None
    cgroup: str
    policy: TaskPolicy
    node: int | None
    mlock: bool
    pages: int
    memory_bytes: int
    maps: list[Mapping]

    @classmethod
    def of(cls, host: state.Host, task: state.Task) -> "Task":
        """The answer for a process."""
        pages = sum(count for _, count in task.runs)
        return cls(
            pid=task.pid,
            kind=task.kind,
            comm=task.comm,
            parent=task.parent,
            cgroup=task.cgroup,
            policy=TaskPolicy(task.policy_mode, list(task.policy_nodes)),
            node=task.node,
            mlock=task.mlock,
            pages=pages,
            memory_bytes=pages * PAGE_SIZE,
            maps=[Mapping.of(host, mapping) for mapping in task.maps.values()],
        )


# -- faults ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault point, in the kernel's words.

    Attributes:
        point: where requests fail.
        armed: it can still fail a request.
        probability: percent of the requests that fail.
        interval: only every n-th request may fail.
        times: how many failures are left; -1: no limit.
        space: failing begins with this page; 0 and 1: at once.
        failures: requests that it has failed.
    """

    point: FaultPoint
    armed: bool
    probability: int
    interval: int
    times: int
    space: int
    failures: int

    @classmethod
    def of(cls, point: FaultPoint, fault: FaultAttr | None) -> "Fault":
        """The answer for a fault point; None: it was never armed, or is disarmed."""
        if fault is None:
            return cls(point, armed=False, probability=0, interval=1, times=0, space=0, failures=0)
        return cls(
            point, fault.armed, fault.probability, fault.interval, fault.times, fault.space, fault.failures
        )


# -- contiguous ranges -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContigRange:
    """A range taken by alloc_contig_range, in pages of 4 KiB.

    Attributes:
        id: its number.
        start_pfn: the first page.
        end_pfn: the page behind the last.
    """

    id: int
    start_pfn: int
    end_pfn: int
    nr_pages: int

    @classmethod
    def of(cls, taken: state.ContigRange) -> "ContigRange":
        """The answer for a range."""
        return cls(taken.range_id, taken.start_pfn, taken.end_pfn, taken.end_pfn - taken.start_pfn)
