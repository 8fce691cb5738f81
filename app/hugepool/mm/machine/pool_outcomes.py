"""What commands on pools answer, in huge pages."""

from dataclasses import dataclass

from hugepool.mm.machine.errors import Remedy
from hugepool.mm.machine.outcomes import Counters
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import VmemmapDelta


@dataclass(frozen=True, slots=True)
class NodeDelta:
    """What a resize did on one node.

    Attributes:
        refused: those that could not be freed, and are surplus now.
    """

    node: int
    allocated: int
    freed: int
    refused: int


@dataclass(frozen=True, slots=True)
class NodeReason:
    """Why a node has fewer, or more, than was asked for."""

    node: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How many pages are missing, or too many, and why.

    Attributes:
        reason: the one that says most of those of the nodes.
        summary: why, in sentences with numbers.
        remedies: what would help.
    """

    missing: int
    reason: Reason | None
    nodes: list[NodeReason]
    summary: str
    remedies: list[Remedy]


@dataclass(frozen=True, slots=True)
class Resize:
    """What a resize did.

    Attributes:
        before: the pool before it.
        after: the pool after it.
        refused: those that could not be freed, and are surplus now.
        converted_surplus: surplus pages that became persistent ones, or the other way.
        nodes: those on which something was done.
        full_nodes: those that were asked for a page in vain.
        shortfall: null: the pool has the size that was asked for.
        injected_fault: an armed fault point refused a request of it.
        reclaimed_pages: pages of 4 KiB that were given up for it: page cache, and memory that went to swap.
        compacted_blocks: pageblocks of 2 MiB that compaction emptied for it.
    """

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
    injected_fault: bool = False
    reclaimed_pages: int = 0
    compacted_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Overcommit:
    """What setting the limit of surplus pages did.

    Attributes:
        before: the pool before it.
        after: the pool after it.
    """

    requested: int
    before: Counters
    after: Counters


@dataclass(frozen=True, slots=True)
class SizedCounters(Counters):
    """Counters of a pool, and of which.

    Attributes:
        size: the huge page size, as sysfs writes it.
    """

    size: str


@dataclass(frozen=True, slots=True)
class Demotion:
    """What demoting gigantic pages did.

    Attributes:
        demoted: gigantic pages that were split.
        before: their pool before it.
        after: their pool after it.
        target: the pool that has the parts.
        injected_fault: an armed fault point refused a request of it.
    """

    requested: int
    demoted: int
    before: Counters
    after: Counters
    target: SizedCounters
    vmemmap: VmemmapDelta
    injected_fault: bool = False
