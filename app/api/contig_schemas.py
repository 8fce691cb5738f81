"""Answers about memory hotplug and contiguous ranges, as /openapi.json describes them."""

from typing import Literal

from pydantic import BaseModel

from app.api.schemas import Counters, VmemmapDelta


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
