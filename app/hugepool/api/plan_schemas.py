"""What plans look like.  For /openapi.json and tests: no answer is validated when sent."""

from pydantic import BaseModel, Field

LIMIT = "What stops one page more: `keep`, or a reason; null: nothing does."


class NodePool(BaseModel):
    """Pages of a node."""

    node: int
    nr_hugepages: int


class OneMore(BaseModel):
    """What asking for one page more comes to."""

    nr_hugepages: int
    available_bytes: int


class LargestPool(BaseModel):
    """The largest pool that works."""

    nr_hugepages: int | None = Field(
        description="What to write; null when not even the smallest pool leaves enough."
    )
    nodes: list[NodePool]
    available_bytes: int = Field(description="MemAvailable afterwards.")
    free_bytes: int
    limited_by: str | None = Field(description=LIMIT)
    one_more: OneMore | None


class LargestPoolOfNode(LargestPool):
    """The same, when only this node's file is written."""

    node: int


class MaxPool(BaseModel):
    """The largest pools that leave `keep_bytes` available."""

    size: str
    keep_bytes: int
    available_bytes: int = Field(description="MemAvailable now.")
    pool: LargestPool
    nodes: list[LargestPoolOfNode]


class ZoneSavings(BaseModel):
    """What a zone has more of."""

    zone: str
    net_bytes: int


class NodeSavings(BaseModel):
    """What a node has more of."""

    node: int
    hugepages: int
    net_bytes: int
    zones: list[ZoneSavings]


class Savings(BaseModel):
    """What freeing the vmemmap gives."""

    size: str
    count: int
    possible: int = Field(description="How many of them can be allocated; all figures are of these.")
    assumed: bool = Field(description="The host does not free vmemmap; the figures are as if it did.")
    pages_freed_per_hugepage: int
    gross_bytes: int
    page_table_bytes: int
    net_bytes: int
    pool_bytes: int
    total_gained_bytes: int = Field(description="What MemTotal grows by.")
    nodes: list[NodeSavings]


class CurvePoint(BaseModel):
    """How many pages can be given back when so much is left."""

    left_bytes: int
    freed: int


class HeadroomDomain(BaseModel):
    """Nodes whose vmemmap is restored from the same zones: one node, or since 6.7 all together."""

    nodes: list[int]
    count: int
    needed_bytes: int = Field(
        description="The least that must be left above the watermarks of the kernel zones."
    )
    available_bytes: int = Field(description="What is left there now.")
    limited_by: str | None = Field(description="What stops the shrink with one page less.")
    curve: list[CurvePoint]


class Headroom(BaseModel):
    """What must stay free so that pages can be given back."""

    size: str
    count: int
    pages_per_hugepage: int
    domains: list[HeadroomDomain]


class BlockPlan(BaseModel):
    """A memory block, tried alone."""

    block: int
    node: int | None
    zones: list[str]
    bytes: int = Field(description="Memory that is plugged in it.")
    hugepages: int = Field(description="2 MiB blocks of it that are huge pages ...")
    free_hugepages: int = Field(description="... and those of them that nobody uses: lost to the pool.")
    movable_pages: int = Field(description="Pages that have to move, those of huge pages in use among them.")
    can_offline: bool
    errno: str | None
    reason: str | None
    detail: str | None


class TogetherPlan(BaseModel):
    """Blocks that go offline one after the other, in this order."""

    bytes: int
    enough: bool
    hugepages_lost: int = Field(description="What the pools are smaller by afterwards, in blocks of 2 MiB.")
    pages_moved: int
    blocks: list[int]


class Offline(BaseModel):
    """Which memory blocks can go offline."""

    block_size_bytes: int
    wanted_bytes: int | None
    together: TogetherPlan
    blocks: list[BlockPlan]


class NodeRoom(BaseModel):
    """Free huge pages of a node."""

    node: int
    free_hugepages: int
    free_when_touched: int = Field(description="When programs have touched all that they have mapped.")


class Start(BaseModel):
    """What starting the machine comes to: mmap, then a touch of every page."""

    fits: bool
    errno: str | None
    reason: str | None
    signal: str | None
    touched: int


class Change(BaseModel):
    """What to write so that the machine starts, tried on a copy."""

    works: bool
    write: list[NodePool] = Field(description="The per-node `nr_hugepages` files, in this order.")
    missing: int
    limited_by: str | None


class Placement(BaseModel):
    """Whether a virtual machine finds its huge pages."""

    size: str
    count: int
    nodes: list[NodeRoom]
    now: Start
    when_touched: Start
    change: Change | None = Field(description="Null when it starts either way.")


class Percentiles(BaseModel):
    """Over the seeds, nearest rank."""

    p0: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    p100: int


class ChurnHistory(BaseModel):
    """What came of a seed: pages that can be formed, by size."""

    seed: int
    running: dict[str, int]
    after_exit: dict[str, int]


class Churn(BaseModel):
    """Huge pages that can be formed, by size: each size as if the other were left alone."""

    rounds: int
    unmovable_percent: int
    fill_percent: int
    now: dict[str, int]
    running: dict[str, Percentiles] = Field(description="While the programs run.")
    after_exit: dict[str, Percentiles] = Field(description="When all that can be moved is free.")
    seeds: list[ChurnHistory]
