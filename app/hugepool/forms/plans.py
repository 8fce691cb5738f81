"""Request bodies of plans."""

from typing import Annotated

from pydantic import Field

from hugepool.forms.bodies import HugeSize
from hugepool.forms.fields import Body, NodeId, Size, Whole

MAX_BLOCKS = 100_000
MAX_SEEDS = 200
MAX_ROUNDS = 10_000
Pages = Annotated[Whole, Field(ge=1, le=2**32, description="Huge pages.")]
Nodes = Annotated[list[NodeId], Field(min_length=1, max_length=64)]
Percent = Annotated[Whole, Field(ge=0, le=100)]


class MaxPoolBody(Body):
    """How much memory has to stay available to the system (MemAvailable) next to the largest pool."""

    size: HugeSize = "2048kB"
    keep: Size


class SavingsBody(Body):
    """A pool: `count` pages in all, spread over the nodes, or on one."""

    size: HugeSize = "2048kB"
    count: Pages
    node: NodeId | None = None


class HeadroomBody(Body):
    """How many huge pages are to be given back; all that can be, by default."""

    size: HugeSize = "2048kB"
    count: Pages | None = None
    points: Annotated[Whole, Field(ge=2, le=200, description="Points of the curve around the cliff.")] = 21


class OfflineBody(Body):
    """How much memory is wanted back, and which memory blocks may be taken; all, by default."""

    memory: Size | None = None
    blocks: (
        Annotated[list[Annotated[Whole, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_BLOCKS)]
        | None
    ) = None
    node: NodeId | None = None


class PlacementBody(Body):
    """A virtual machine: its memory, of which huge pages, bound to which nodes; to all, by default."""

    memory: Size
    size: HugeSize = "2048kB"
    nodes: Nodes | None = None


class ChurnBody(Body):
    """Rounds of allocation and freeing, of which a share cannot be moved, from several seeds."""

    rounds: Annotated[Whole, Field(ge=0, le=MAX_ROUNDS)] = 20
    unmovable_percent: Annotated[
        Percent, Field(description="Share of what is allocated that cannot be moved.")
    ] = 10
    fill_percent: Annotated[Percent, Field(description="Share of the free memory in use at most.")] = 80
    seeds: Annotated[Whole, Field(ge=1, le=MAX_SEEDS, description="How many histories are tried.")] = 8
    seed: Annotated[Whole, Field(ge=0, lt=2**63, description="The first seed.")] = 0
