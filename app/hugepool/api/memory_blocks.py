"""Memory blocks, as hotplug sees memory."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, create, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.paging import Cursor, ListPage, page, position
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import AddMemoryBody, BlockStateBody, UnplugBody
from hugepool.mm.commands.commands import RemoveMemory, SetBlockState
from hugepool.mm.machine.memory_outcomes import AddedMemory, BlockChange, RemovedMemory, Unplugged
from hugepool.mm.views.block_view import MemoryBlock, blocks
from hugepool.mm.views.block_view import block as block_of
from hugepool.mm.views.blockers import Blockers, blockers

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/memory-blocks", tags=["memory blocks"])
BlockLimit = Annotated[int, Query(ge=1, le=10_000, description="Most entries in one answer.")]
BlockInPath = Annotated[int, Path(description="Number of the memory block.", examples=[8])]


@router.get("", response_model=ListPage[MemoryBlock], responses=reading())
def list_memory_blocks(
    request: Request, host: HostInPath, limit: BlockLimit = 1000, cursor: Cursor = None, _: IfNoneMatch = None
) -> Response:
    """Memory blocks in order of address."""
    after = position(cursor)
    return read(
        request,
        host,
        lambda machine: page(blocks(machine, after, limit + 1), limit, lambda row: row.block),
    )


@router.get("/{block}", response_model=MemoryBlock, responses=reading())
def get_memory_block(
    request: Request, host: HostInPath, block: BlockInPath, _: IfNoneMatch = None
) -> Response:
    """One memory block: its state, the zones it may go to, and what lies in it."""
    return read(request, host, lambda machine: block_of(machine, block))


@router.get("/{block}/blockers", response_model=Blockers, responses=reading())
def get_blockers(request: Request, host: HostInPath, block: BlockInPath, _: IfNoneMatch = None) -> Response:
    """Why a memory block would not go offline now, found without changing anything."""
    return read(request, host, lambda machine: blockers(machine, block))


@router.post("", status_code=201, response_model=AddedMemory, responses=changing(409, 507, status=201))
def add_memory(
    request: Request, host: HostInPath, conditions: Changing, body: AddMemoryBody = examples.ADD_MEMORY
) -> Response:
    """Plug memory into a node, as offline blocks; `auto_online_blocks` can bring them online at once."""
    return create(
        request, host, body.command(), conditions, body, lambda added: f"memory-blocks/{added['blocks'][0]}"
    )


@router.post("/{block}/unplug", response_model=Unplugged, responses=changing(409, 507))
def unplug_memory(
    request: Request,
    host: HostInPath,
    block: BlockInPath,
    conditions: Changing,
    body: UnplugBody = examples.UNPLUG,
) -> Response:
    """Take a part of a memory block out, as the virtio-mem driver does: a caller of alloc_contig_range.

    A refusal keeps what was done, shown in `result`; each try on a huge page whose vmemmap cannot be restored has
    grown the pool by one.
    """
    return change(request, host, body.command(block), conditions, body)


@router.delete("/{block}", response_model=RemovedMemory, responses=changing(409, body=False))
def remove_memory(request: Request, host: HostInPath, block: BlockInPath, conditions: Changing) -> Response:
    """Unplug an offline memory block; its vmemmap and page tables go back to the system."""
    return change(request, host, RemoveMemory(block), conditions)


@router.put("/{block}/state", response_model=BlockChange, responses=changing(409, 507))
def set_memory_block_state(
    request: Request,
    host: HostInPath,
    block: BlockInPath,
    conditions: Changing,
    body: BlockStateBody = examples.BLOCK_STATE,
) -> Response:
    """Take a memory block offline or bring it online, as a write to its `state` does.

    An offline that fails keeps what it did, shown in `result`: pages migrated stay migrated, huge pages dissolved
    are gone from the pool.
    """
    return change(request, host, SetBlockState(block, body.state), conditions, body)
