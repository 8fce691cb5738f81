"""What answers look like: hosts, pools, memory.  For /openapi.json and tests: none is validated when sent."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hugepool.mm.machine.errors import Remedy


class Problem(BaseModel):
    """A refusal, as RFC 9457 writes it.  There may be more facts than these."""

    model_config = ConfigDict(extra="allow")

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
    summary: str = Field(description="Why, in sentences.")
    remedies: list[Remedy] = Field(description="What would help.")


class Injected(BaseModel):
    """What an armed fault point can have a part in."""

    injected_fault: bool | None = Field(None, description="True: a fault point failed a request of it.")


class Resize(Injected):
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
