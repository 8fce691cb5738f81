"""Answers about memory hotplug and contiguous ranges, as /openapi.json describes them."""

from typing import Literal

from pydantic import BaseModel

from hugepool.api.schemas import Counters, VmemmapDelta


class BlockChange(BaseModel):
    """What writing a memory block's state did."""

    state: Literal["online", "offline"]
    migrated_pages: int
    migrated_hugepages: int = 0
    dissolved: dict[str, int]
    passes: int
    vmemmap: VmemmapDelta
    node: int | None = None
    zone: str | None = None


class AddedMemory(BaseModel):
    """Memory that was plugged in."""

    node: int
    blocks: list[int]
    start_pfn: int
    nr_pages: int
    state: Literal["online", "offline"]
    memmap_on_memory: bool


class RemovedMemory(BaseModel):
    """A memory block that was unplugged, and what came of its vmemmap, in pages of 4 KiB."""

    block: int
    vmemmap_pages_freed: int
    vmemmap_pages_lost: int
    page_table_pages_freed: int


class Unplugged(BaseModel):
    """What unplugging a part of a memory block did."""

    block: int
    requested_pages: int
    unplugged_pages: int
    busy_sub_blocks: int
    sub_block_pages: int
    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta


class Poisoned(BaseModel):
    """What became of a poisoned page."""

    pfn: int
    mode: Literal["hard", "soft"]
    action: Literal["taken", "unmapped", "migrated", "dissolved", "kept", "ignored", "lost"]
    poisoned_pages: int
    vmemmap: VmemmapDelta


class Unmovable(BaseModel):
    """Pages that cannot be moved, by use: how many, and the first."""

    use: str
    pages: int
    first_pfn: int
    pids: list[int]


class HugePagesInBlock(BaseModel):
    """Huge pages of a size in a block, and what dissolving the free ones takes."""

    size: str
    free: int
    in_use: int
    optimized: int
    vmemmap_pages_needed: int
    pids: list[int]
    files: list[str]


class Blockers(BaseModel):
    """What would come of taking a memory block offline now, and all that stands in its way."""

    block: int
    can_offline: bool
    errno: str | None
    reason: str | None
    detail: str | None
    holes_pages: int
    zones: list[str]
    unmovable: list[Unmovable]
    movable_pages: int
    movable_pids: list[int]
    hugepages: list[HugePagesInBlock]
    vmemmap_pages_available: int
    unreserved_hugepages: dict[str, int]


class ContigRange(BaseModel):
    """A range taken by alloc_contig_range, end excluded."""

    id: int
    start_pfn: int
    end_pfn: int
    nr_pages: int


class ContigRangeList(BaseModel):
    """All ranges of a host."""

    items: list[ContigRange]
    next_cursor: str | None


class AllocatedRange(ContigRange):
    """A range just taken, and what had to move for it."""

    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta


class Demotion(BaseModel):
    """What demoting gigantic pages did."""

    requested: int
    demoted: int
    before: Counters
    after: Counters
    target: dict[str, int | str]
    vmemmap: VmemmapDelta
