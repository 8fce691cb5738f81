"""What commands answer, as plain data: what they did.  Shapes that several of them share, and the small ones.

The API, the client's types and /openapi.json take names, types and descriptions from these classes, from those of the
other files named ``*_outcomes`` and from those of ``mm.views``: a field is declared once
(docs/decisions/0014-answers-are-dataclasses.md).
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from hugepool.mm.machine.fault_inject import FaultAttr, FaultPoint
from hugepool.mm.machine.state import Call, DeferredMode, HState, VmemmapDelta

# -- shared ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of a pool, as sysfs has them, in huge pages.

    Attributes:
        max_huge_pages: the persistent size last agreed: what `/proc/sys/vm/nr_hugepages` reads back.
    """

    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    nr_overcommit_hugepages: int
    max_huge_pages: int


def counters(hs: HState) -> Counters:
    """The counters of a huge page size now."""
    return Counters(
        nr_hugepages=hs.nr_huge_pages,
        free_hugepages=hs.free_huge_pages,
        resv_hugepages=hs.resv_shown,
        surplus_hugepages=hs.surplus_huge_pages,
        nr_overcommit_hugepages=hs.nr_overcommit_huge_pages,
        max_huge_pages=hs.max_huge_pages,
    )


def vmemmap_of(call: Call) -> VmemmapDelta:
    """What a command has done to the vmemmap so far."""
    return replace(call.vmemmap)


def shallow(answer: Any) -> dict[str, Any]:
    """The fields of an answer by name, for one that has more of them."""
    return {field.name: getattr(answer, field.name) for field in fields(answer)}


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a refused command that has undone the rest.

    Attributes:
        vmemmap: pages that were made for a moment leave their boot frames in MemTotal.
    """

    vmemmap: VmemmapDelta


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


@dataclass(frozen=True, slots=True)
class Disarmed:
    """A fault point that is disarmed now."""

    point: FaultPoint


# -- the worker for deferred frees -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerMode:
    """Who works off the queue of deferred frees.

    Attributes:
        mode: `auto` the service's worker soon after, `manual` only a drain or a resize.
    """

    mode: DeferredMode


@dataclass(frozen=True, slots=True)
class Drained:
    """What working off the queue of deferred frees did, in huge pages.

    Attributes:
        freed: given back to the system.
        returned_as_surplus: back in their pool, as their vmemmap could not be restored.
        queued: those that still wait.
        injected_fault: an armed fault point refused a request of it.
    """

    freed: int
    returned_as_surplus: int
    vmemmap: VmemmapDelta
    queued: int
    injected_fault: bool = False


# -- settings --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MinFreeKbytes:
    """`min_free_kbytes` as it is now."""

    min_free_kbytes: int


@dataclass(frozen=True, slots=True)
class WatermarkScaleFactor:
    """`watermark_scale_factor` as it is now, in 1/10000 of a zone."""

    watermark_scale_factor: int


@dataclass(frozen=True, slots=True)
class LowmemReserveRatio:
    """`lowmem_reserve_ratio` as it is now, by the type of the lower zone."""

    lowmem_reserve_ratio: list[int]


@dataclass(frozen=True, slots=True)
class OptimizeVmemmap:
    """`hugetlb_optimize_vmemmap` as it is now: 1 on, 0 off."""

    hugetlb_optimize_vmemmap: int


@dataclass(frozen=True, slots=True)
class AutoOnline:
    """What hot-added memory does by itself: a word of a memory block's state."""

    auto_online_blocks: str


@dataclass(frozen=True, slots=True)
class TransparentHugepage:
    """A file of ``/sys/kernel/mm/transparent_hugepage``, and what it has now."""

    file: str
    value: str


@dataclass(frozen=True, slots=True)
class ShmGroup:
    """The group that may make huge SysV segments."""

    gid: int


@dataclass(frozen=True, slots=True)
class CompactedMemory:
    """What compaction did.

    Attributes:
        compacted_blocks: pageblocks of 2 MiB that came free.
        migrated_pages: pages of 4 KiB that moved for that.
    """

    compacted_blocks: int
    migrated_pages: int


@dataclass(frozen=True, slots=True)
class DroppedCaches:
    """What a write to drop_caches freed, in pages of 4 KiB.

    Attributes:
        cache_pages: of the page cache.
        slab_pages: of kernel objects.
    """

    cache_pages: int
    slab_pages: int


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that took what was written and did nothing with it."""

    path: str
