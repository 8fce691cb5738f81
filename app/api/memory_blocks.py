"""Memory blocks, as hotplug sees memory."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from app.api import contig_schemas, examples, schemas
from app.api.answers import change, read
from app.api.documentation import changing, reading
from app.api.fields import HostInPath
from app.api.paging import Cursor, page, position
from app.api.terms import Changing, IfNoneMatch
from app.forms.bodies import BlockStateBody
from app.mm import page_view
from app.mm.commands import SetBlockState

router = APIRouter(prefix="/v1/hosts/{host}/memory-blocks", tags=["memory blocks"])
BlockLimit = Annotated[int, Query(ge=1, le=10_000, description="Most entries in one answer.")]
BlockInPath = Annotated[int, Path(description="Number of the memory block.", examples=[8])]


@router.get("", response_model=schemas.MemoryBlockPage, responses=reading())
def list_memory_blocks(
    request: Request, host: HostInPath, limit: BlockLimit = 1000, cursor: Cursor = None, _: IfNoneMatch = None
) -> Response:
    """Memory blocks in order of address."""
    after = position(cursor)
    return read(
        request,
        host,
        lambda machine: page(page_view.blocks(machine, after, limit + 1), limit, "block"),
    )


@router.get("/{block}", response_model=schemas.MemoryBlock, responses=reading())
def get_memory_block(
    request: Request, host: HostInPath, block: BlockInPath, _: IfNoneMatch = None
) -> Response:
    """One memory block: its state, the zones it may go to, and what lies in it."""
    return read(request, host, lambda machine: page_view.block(machine, block))


@router.put("/{block}/state", response_model=contig_schemas.BlockChange, responses=changing(409, 507))
def set_memory_block_state(
    request: Request,
    host: HostInPath,
    block: BlockInPath,
    conditions: Changing,
    body: BlockStateBody = examples.BLOCK_STATE,
) -> Response:
    """Take a memory block offline or bring it online, as a write to its `state` does.

    An offline that fails keeps what it did, told in `result`: pages migrated stay migrated, huge pages dissolved
    are gone from the pool.
    """
    return change(request, host, SetBlockState(block, body.state), conditions, body)
