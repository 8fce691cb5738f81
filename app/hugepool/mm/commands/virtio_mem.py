"""Unplugging parts of a memory block, as the virtio-mem driver does.

Source: drivers/virtio/virtio_mem.c virtio_mem_sbm_unplug_any_sb_online(), virtio_mem_fake_offline() (5.14).
"""

import numpy as np

from hugepool.mm.commands.commands import UnplugMemory
from hugepool.mm.commands.contig_ranges import Watch, progress_of
from hugepool.mm.commands.memory_block import block_sections, is_online
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel.contig import alloc_contig_range
from hugepool.mm.kernel.memory_hotplug import pageblocks
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import Unplugged
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Migrate, Use
from hugepool.mm.machine.outcomes import shallow
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES

TRIES_IN_MOVABLE = 5


@handles(UnplugMemory)
def unplug(host: Host, call: Call, cmd: UnplugMemory) -> Unplugged:
    """Empty sub-blocks of an online memory block from its end and take them out of MemTotal.

    Sub-blocks are 4 MiB until 5.18, 2 MiB later.  One that stays busy is left out; in ZONE_MOVABLE it is tried five
    times first.

    Raises:
        MMError: ENOENT no such block; EINVAL no multiple of a sub-block, more than is plugged, or an offline block;
            ENOMEM no 2 MiB page for a replacement, which ends it, or EBUSY not enough sub-blocks could be emptied,
            both with ``result``: what was unplugged stays unplugged, and each try can have grown the pool.
    """
    todo = _sub_blocks(host, cmd)
    size = host.profile.isolation_pages
    wanted = cmd.pages // size
    movable = host.zones[int(host.mem.zone[todo[0] // PAGEBLOCK_PAGES]) - 1].type == ZONE_MOVABLE
    watch, done = progress_of(host), 0
    failures: list[MMError] = []
    for start in todo:
        if done == wanted or (failures and failures[-1].errno == "ENOMEM"):
            break
        failure = _take(host, call, start, size, TRIES_IN_MOVABLE if movable else 1, watch)
        if failure is None:
            done += 1
        else:
            failures.append(failure)
    answer = Unplugged(
        **shallow(watch.moved(host, call)),
        block=cmd.block,
        requested_pages=cmd.pages,
        unplugged_pages=done * size,
        busy_sub_blocks=len(failures),
        sub_block_pages=size,
    )
    call.emit(Event.MEMORY_UNPLUGGED, block=cmd.block, pages=done * size, busy=len(failures))
    if done < wanted:
        last = failures[-1]
        raise MMError(last.errno, f"{done * size} of {cmd.pages} pages were unplugged: {last.detail}",
                      reason=last.reason, result=answer, **last.facts)  # fmt: skip
    return answer


def _sub_blocks(host: Host, cmd: UnplugMemory) -> list[int]:
    """First pages of the plugged sub-blocks of a block, the last one first."""
    sections = block_sections(host, cmd.block)
    size = host.profile.isolation_pages
    if not is_online(host, sections):
        raise BadInput(f"memory block {cmd.block} is offline", where="block")
    if cmd.pages <= 0 or cmd.pages % size:
        raise BadInput(f"must be a multiple of {size * PAGE_SIZE >> 20} MiB", where="memory")
    blocks = pageblocks(sections)
    kept = np.setdiff1d(blocks, pages_of_use(host.mem, blocks, Use.UNPLUGGED) // PAGEBLOCK_PAGES)
    starts = np.unique(kept * PAGEBLOCK_PAGES // size * size)[::-1]
    if cmd.pages > starts.size * size:
        raise BadInput(f"only {starts.size * size} pages of the block are plugged", where="memory")
    if not (host.mem.zone[kept] == host.mem.zone[kept[0]]).all() or host.mem.zone[kept[0]] == 0:
        raise BadInput(
            f"memory block {cmd.block} lies in several zones", where="block", reason=Reason.MULTIZONE_RANGE
        )
    return starts.tolist()  # type: ignore[no-any-return]


def _take(host: Host, call: Call, start: int, size: int, tries: int, watch: Watch) -> MMError | None:
    """Unplug one sub-block, or why it could not be."""
    failure = None
    for _ in range(tries):
        try:
            alloc_contig_range(host, call, start, start + size, Migrate.MOVABLE, watch.progress)
        except MMError as error:
            failure = error
            if error.errno == "ENOMEM":
                break
            continue
        host.mem.assign_pages(np.arange(start, start + size), Use.UNPLUGGED)
        return None
    return failure
