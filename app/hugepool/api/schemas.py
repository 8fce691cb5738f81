"""What answers look like: hosts, pools, memory.  For /openapi.json and tests: none is validated when sent."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from hugepool.mm.machine.fault_inject import FaultPoint


class Problem(BaseModel):
    """A refusal, as RFC 9457 writes it.  More facts may stand beside these."""

    type: str = Field(examples=["urn:hugepool:errno:ENOMEM"])
    title: str = Field(examples=["Cannot allocate memory"])
    status: int = Field(examples=[507])
    detail: str
    instance: str = Field(description="The address asked, without its query.")
    errno: str = Field(examples=["ENOMEM"])
    errno_number: int = Field(examples=[12])
    reason: str | None = Field(None, description="Why, in one word of a fixed list.")
    node: int | None = None
    zone: str | None = None
    pfn: int | str | None = None
    pages_needed: int | None = None
    pages_available: int | None = None
    errors: list["FieldError"] | None = Field(None, description="Of a malformed request: each field.")
    result: dict[str, Any] | None = Field(None, description="What was done before the refusal, and is kept.")


class FieldError(BaseModel):
    """One thing wrong with a request."""

    field: str
    message: str


class Memory(BaseModel):
    """Managed and free memory."""

    total_bytes: int = Field(description="Managed memory: MemTotal.")
    free_bytes: int
    managed_pages: int
    free_pages: int


class Node(Memory):
    """One NUMA node."""

    node: int
    cpus: list[int]
    distance: list[int]
    present_pages: int


class Zone(BaseModel):
    """One zone; all but names in pages of 4 KiB."""

    node: int
    name: Literal["DMA", "DMA32", "Normal", "Movable"]
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free: int
    min: int
    low: int
    high: int
    lowmem_reserve: list[int]


class HugePagesOfNode(BaseModel):
    """Counters of one node."""

    node: int
    nr_hugepages: int
    free_hugepages: int
    surplus_hugepages: int


class HugePages(BaseModel):
    """One huge page size."""

    size: Literal["2048kB", "1048576kB"]
    order: int
    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    max_huge_pages: int
    nr_overcommit_hugepages: int
    nr_free_vmemmap_pages: int = Field(description="Vmemmap pages that one optimised huge page gives back.")
    optimized_hugepages: int
    nodes: list[HugePagesOfNode]


class VmemmapTotals(BaseModel):
    """What vmemmap freeing has done, in pages of 4 KiB."""

    sections: int
    sections_split: int
    page_table_pages: int
    pages_freed: int
    bytes_saved: int = Field(description="Freed less the page tables that it took.")


class MemoryBlocks(BaseModel):
    """How many memory blocks there are."""

    size_bytes: int
    online: int
    offline: int


class DeferredCount(BaseModel):
    """How many huge pages wait for the worker."""

    mode: Literal["auto", "manual"]
    queued: int


class Fault(BaseModel):
    """One fault point."""

    point: FaultPoint
    armed: bool
    probability: int
    interval: int
    times: int
    space: int
    failures: int


class HostRow(BaseModel):
    """A host in a list."""

    name: str
    kernel: str
    revision: int
    created_at: str | None = Field(description="None in a dry run.")


class CmaArea(BaseModel):
    """Memory set aside for contiguous ranges; movable pages use it meanwhile.  Pages of 4 KiB."""

    name: str
    base_pfn: int
    nr_pages: int
    taken_pages: int
    node: int


class Host(HostRow):
    """A host in full."""

    cmdline: str
    seed: int
    memory: Memory
    nodes: list[Node]
    zones: list[Zone]
    hugepages: list[HugePages]
    vmemmap: VmemmapTotals
    memory_blocks: MemoryBlocks
    cma_areas: list[CmaArea]
    deferred_frees: DeferredCount
    faults: list[Fault]
    tasks: int
    assumptions: list[str] = Field(
        description="Of an imported machine: what no file said, and what was taken instead, a sentence each."
    )
    approximate: bool = Field(description="Whether it stands for a machine of which only meminfo was given.")


class HostPage(BaseModel):
    """A page of hosts."""

    items: list[HostRow]
    next_cursor: str | None


class HugePagesList(BaseModel):
    """All huge page sizes."""

    items: list[HugePages]


class Counters(BaseModel):
    """Counters of a pool."""

    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    nr_overcommit_hugepages: int
    max_huge_pages: int


class VmemmapDelta(BaseModel):
    """What a change did to the vmemmap, in pages of 4 KiB."""

    pages_freed: int
    pages_restored: int
    page_table_pages: int


class NodeDelta(BaseModel):
    """What a resize did on one node, in huge pages."""

    node: int
    allocated: int
    freed: int
    refused: int


class NodeReason(BaseModel):
    """What stopped a node."""

    node: int
    reason: str


class Shortfall(BaseModel):
    """How many pages are missing, or too many, and why."""

    missing: int
    reason: str | None
    nodes: list[NodeReason]


class Resize(BaseModel):
    """What a resize did."""

    requested: int
    before: Counters
    after: Counters
    allocated: int
    freed: int
    refused: int
    converted_surplus: int
    vmemmap: VmemmapDelta
    nodes: list[NodeDelta]
    full_nodes: list[int]
    shortfall: Shortfall | None


class Overcommit(BaseModel):
    """What setting the overcommit limit did."""

    requested: int
    before: Counters
    after: Counters


class MemoryBlock(BaseModel):
    """One memory block."""

    block: int
    phys_index: str
    state: Literal["online", "offline"]
    node: int | None
    zone: str | None
    valid_zones: str
    removable: bool
    start_pfn: int
    nr_pages: int
    free_pages: int
    hugepages: dict[str, int]


class MemoryBlockPage(BaseModel):
    """A page of memory blocks."""

    items: list[MemoryBlock]
    next_cursor: str | None


class SectionRow(BaseModel):
    """One section of 128 MiB."""

    section: int
    mapping: Literal["pmd", "pte"]
    optimized_hugepages: int
    pages_freed: int


class Vmemmap(VmemmapTotals):
    """Totals, and a page of sections."""

    items: list[SectionRow]
    next_cursor: str | None


class PteRun(BaseModel):
    """Entries of a page table whose frames advance by `step`."""

    first_page: int
    nr_pages: int
    pfn: int
    step: Literal[0, 1]
    writable: bool


class Section(SectionRow):
    """A section with its page table."""

    node: int
    block: int
    page_table_pfn: int | None
    runs: list[PteRun]


class StructPage(BaseModel):
    """Where a `struct page` lies."""

    virtual_address: str
    pfn: int
    mapping: Literal["pmd", "pte"]
    writable: bool


class Page(BaseModel):
    """One page; details by its use stand beside these."""

    pfn: int
    node: int
    zone: str | None
    section: int
    block: int
    pageblock_migratetype: str
    use: str
    struct_page: StructPage | None
