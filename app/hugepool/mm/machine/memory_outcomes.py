"""What commands on memory blocks, contiguous ranges and single pages answer, in pages of 4 KiB."""

from dataclasses import dataclass, field
from typing import Literal

from hugepool.mm.machine import state
from hugepool.mm.machine.mmzone import ZoneName
from hugepool.mm.machine.outcomes import Counters
from hugepool.mm.machine.state import VmemmapDelta

# -- memory blocks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockChange:
    """What writing a memory block's state did.

    Attributes:
        migrated_pages: single pages that moved.
        migrated_hugepages: huge pages in use that moved.
        dissolved: free huge pages that left their pool, by size.
        passes: how often the block was gone through.
        node: of a block that is online now.
        zone: of a block that is online now.
        injected_fault: an armed fault point refused a request of it.
    """

    state: Literal["online", "offline"]
    migrated_pages: int
    migrated_hugepages: int
    dissolved: dict[str, int]
    passes: int
    vmemmap: VmemmapDelta
    node: int | None = None
    zone: ZoneName | None = None
    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class AddedMemory:
    """Memory that was plugged in.

    Attributes:
        blocks: numbers of its memory blocks.
        start_pfn: its first page.
        memmap_on_memory: its vmemmap lies on itself.
    """

    node: int
    blocks: list[int]
    start_pfn: int
    nr_pages: int
    state: Literal["online", "offline"]
    memmap_on_memory: bool


@dataclass(frozen=True, slots=True)
class RemovedMemory:
    """A memory block that was unplugged, and what became of its vmemmap.

    Attributes:
        vmemmap_pages_lost: those that the kernel loses (5.14).
    """

    block: int
    vmemmap_pages_freed: int
    vmemmap_pages_lost: int
    page_table_pages_freed: int


@dataclass(frozen=True, slots=True)
class EjectedMemory:
    """What became of memory that was asked to leave.

    Attributes:
        gone: it left; else all that went offline for it is online again.
        refused: the memory blocks that stayed online, with the errno.
    """

    blocks: list[int]
    gone: bool
    refused: dict[int, str]
    vmemmap: VmemmapDelta


# -- virtio-mem ------------------------------------------------------------------------------------------

VirtioMemAction = Literal["plug", "unplug", "offline", "remove"]


@dataclass(frozen=True, slots=True)
class VirtioMemStep:
    """What the driver did with one memory block.

    Attributes:
        bytes: how much of the block; 0 when none of it could be had.
        errno: why not more of it: `EBUSY` some of it is in use, `ENOMEM` no memory for what would have to move.
    """

    block: int
    action: VirtioMemAction
    bytes: int
    errno: str | None = None


@dataclass(frozen=True, slots=True)
class RetryTimer:
    """The driver's timer.

    Attributes:
        due: seconds after the last run until it tries again; null when it has nothing left to try.
        attempt: how often it has fired since the requested size was last reached.
    """

    due: int | None
    attempt: int


@dataclass(frozen=True, slots=True)
class VirtioMemDevice:
    """A virtio-mem device.

    Attributes:
        node: where its memory goes.
        start_pfn: the first page of its region.
        max_bytes: the size of its region.
        block_size_bytes: the device's own blocks.
        mode: the driver works with parts of memory blocks (`sub-block`), or with whole ones (`big-block`).
        unit_bytes: how much the driver plugs or unplugs at once.
        requested_bytes: what the hypervisor wants the machine to have of it.
        plugged_bytes: what the machine has of it.
        blocks: numbers of its memory blocks.
    """

    id: str
    node: int
    start_pfn: int
    max_bytes: int
    block_size_bytes: int
    mode: Literal["sub-block", "big-block"]
    unit_bytes: int
    requested_bytes: int
    plugged_bytes: int
    blocks: list[int]
    retry: RetryTimer


@dataclass(frozen=True, slots=True)
class RemovedDevice:
    """A device that is gone."""

    id: str


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


@dataclass(frozen=True, slots=True)
class Moved:
    """What had to move for a range; kept also when the range is refused.

    Attributes:
        migrated_pages: single pages that moved.
        migrated_hugepages: huge pages in use that moved.
        replaced_hugepages: free huge pages that others took the place of.
        refused_hugepages: free huge pages whose vmemmap could not be restored: each has made the pool grow by one.
        before: the pool of 2 MiB pages before it.
        after: the pool of 2 MiB pages after it.
        injected_fault: an armed fault point refused a request of it.
    """

    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta
    injected_fault: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class AllocatedRange(Moved):
    """A range just taken, and what had to move for it.

    Attributes:
        id: its number.
        start_pfn: the first page.
        end_pfn: the page behind the last.
    """

    id: int
    start_pfn: int
    end_pfn: int
    nr_pages: int


@dataclass(frozen=True, slots=True)
class VirtioMemRun(Moved):
    """What one run of the virtio-mem driver did, and what had to move for it.

    Attributes:
        steps: what it did, in order.
        errno: why it ended before the requested size: `EBUSY`, `ENOMEM`, or `ENOSPC`: the region is full, or too much
            of its memory waits to go online.
        reason: the last thing that was in the way.
    """

    id: str
    requested_bytes: int
    plugged_bytes: int
    steps: list[VirtioMemStep]
    retry: RetryTimer
    errno: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Unplugged(Moved):
    """What unplugging a part of a memory block did.

    Attributes:
        busy_sub_blocks: those that could not be emptied.
        sub_block_pages: how large they are.
    """

    block: int
    requested_pages: int
    unplugged_pages: int
    busy_sub_blocks: int
    sub_block_pages: int


@dataclass(frozen=True, slots=True)
class FreedPages:
    """Pages that a CMA area has back.

    Attributes:
        area: its name.
    """

    area: str
    freed_pages: int


# -- single pages ----------------------------------------------------------------------------------------

Action = Literal["taken", "unmapped", "migrated", "dissolved", "kept", "ignored", "lost"]


@dataclass(frozen=True, slots=True)
class Poisoned:
    """What became of a poisoned page.

    Attributes:
        mode: `hard`: it turned bad; `soft`: it is taken out before it does.
        action: `taken` from the free pages, `unmapped` from its task, `migrated`, `dissolved` with the huge page around
            it, `kept` in the pool although the kernel reports success (5.14), `ignored`, or `lost` with its whole huge
            page.
        poisoned_pages: of the host, all in all.
        injected_fault: an armed fault point refused a request of it.
    """

    pfn: int
    mode: Literal["hard", "soft"]
    action: Action
    poisoned_pages: int
    vmemmap: VmemmapDelta
    injected_fault: bool = False
