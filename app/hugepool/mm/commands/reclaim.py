"""Page cache: reading files into it, and giving it up on request; compaction on request.

Source: fs/drop_caches.c drop_caches_sysctl_handler() (5.14).
"""

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.registry import handles
from hugepool.mm.commands.task import find, zones_of
from hugepool.mm.kernel import filemap
from hugepool.mm.kernel.compaction import compact_zone
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Use
from hugepool.mm.machine.outcomes import CompactedMemory, DroppedCaches
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.task_outcomes import TaskPages

PAGE_CACHE, SLAB = 1, 2  # bits of what is written


@handles(c.FillCache)
def fill_cache(host: Host, call: Call, cmd: c.FillCache) -> TaskPages:
    """Fill the page cache for an owner.

    Clean cache takes what is free, and then the place of older cache: what does not fit has come and gone.

    Raises:
        MMError: ENOMEM when not all dirty pages find room: nothing is kept.
    """
    task = find(host, cmd.pid)
    if task.kind != "cache":
        raise BadInput(f"task {cmd.pid} is a process, and owns no page cache", where="pid")
    use = Use.PAGE_CACHE if cmd.clean else Use.DIRTY_CACHE
    pages = filemap.fill(host, task.pid, zones_of(host, task, cmd.node, ZONE_MOVABLE), cmd.pages, use)
    if pages < cmd.pages and not cmd.clean:
        raise MMError("ENOMEM", f"only {pages} of {cmd.pages} dirty pages find room above the high watermarks",
                      reason=Reason.WATERMARK, pages_needed=cmd.pages, pages_available=pages)  # fmt: skip
    call.emit(Event.CACHE_FILLED, pid=task.pid, pages=pages, clean=cmd.clean)
    return TaskPages(task.pid, pages)


@handles(c.CompactMemory)
def compact_memory(host: Host, call: Call, cmd: c.CompactMemory) -> CompactedMemory:
    """Compact all zones, or those of a node, until nothing more comes of it.

    Source: mm/compaction.c compact_nodes(), compact_store() (5.14).
    """
    if cmd.nid is not None and not 0 <= cmd.nid < len(host.nodes):
        raise BadInput(f"there is no node {cmd.nid}", where="node")
    done = [compact_zone(host, zone) for zone in host.zones if zone.present and cmd.nid in (None, zone.nid)]
    answer = CompactedMemory(sum(one.blocks for one in done), sum(one.pages for one in done))
    call.emit(Event.MEMORY_COMPACTED, node=cmd.nid, compacted_blocks=answer.compacted_blocks,
              migrated_pages=answer.migrated_pages)  # fmt: skip
    return answer


@handles(c.DropCaches)
def drop_caches(host: Host, call: Call, cmd: c.DropCaches) -> DroppedCaches:
    """Give up clean page cache, reclaimable kernel objects, or both.

    Not modelled: kernel objects that are held, so that they stay; the console line.
    Source: fs/drop_caches.c (5.14).
    """
    if not 1 <= cmd.mode <= 4:
        raise BadInput(f"must be 1..4, not {cmd.mode}", where="drop_caches")
    dropped = DroppedCaches(
        filemap.drop(host, Use.PAGE_CACHE) if cmd.mode & PAGE_CACHE else 0,
        filemap.drop(host, Use.SLAB) if cmd.mode & SLAB else 0,
    )
    host.count("drop_pagecache", int(bool(cmd.mode & PAGE_CACHE)))
    host.count("drop_slab", int(bool(cmd.mode & SLAB)))
    call.emit(Event.CACHES_DROPPED, cache_pages=dropped.cache_pages, slab_pages=dropped.slab_pages)
    return dropped
