"""Answers about memory hotplug and contiguous ranges, as /openapi.json describes them."""

from typing import Literal

from pydantic import BaseModel

from hugepool.api.schemas import Counters, Injected, VmemmapDelta


class BlockChange(Injected):
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


class Unplugged(Injected):
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


class Poisoned(Injected):
    """What became of a poisoned page."""

    pfn: int
    mode: Literal["hard", "soft"]
    action: Literal["taken", "unmapped", "migrated", "dissolved", "kept", "ignored", "lost"]
    poisoned_pages: int
    vmemmap: VmemmapDelta


class AllocatedRange(Injected):
    """A range just taken, and what had to move for it."""

    id: int
    start_pfn: int
    end_pfn: int
    nr_pages: int
    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta


class Demotion(Injected):
    """What demoting gigantic pages did."""

    requested: int
    demoted: int
    before: Counters
    after: Counters
    target: dict[str, int | str]
    vmemmap: VmemmapDelta
