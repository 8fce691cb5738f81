"""Memory blocks: offline and online, step by step.

Source: mm/memory_hotplug.c offline_pages(), online_pages(), default_zone_for_pfn();
mm/hugetlb.c dissolve_free_huge_page(); drivers/base/memory.c state_store() (5.14).
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from app.mm.boot import setup_wmarks
from app.mm.commands import SetAutoOnline, SetBlockState
from app.mm.errors import BadInput, MMError, NotFound
from app.mm.hugetlb_page import (
    ResizeResult,
    account_pages,
    dequeue_page,
    enqueue,
    release,
    run_free_hpage_work,
)
from app.mm.layout import DMA32_END, DMA_END
from app.mm.migrate import (
    free_huge_pages,
    migrate_huge_page,
    migrate_single_pages,
    other_nodes,
    used_huge_pages,
)
from app.mm.mmzone import (
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    Blocks,
    Migrate,
    SectionState,
    Use,
    Zone,
)
from app.mm.page_alloc import calculate_min_free_kbytes, setup_per_zone_lowmem_reserve
from app.mm.page_isolation import all_free, isolate, pages_of_use
from app.mm.state import Call, Host, HState
from app.mm.tell import vmemmap_of
from app.mm.units import BLOCKS_PER_1G, BLOCKS_PER_SECTION, PAGEBLOCK_PAGES, SECTION_PAGES

IDLE_PASSES = 3  # passes without progress after which an offline would never end
WORDS = ("offline", "online", "online_kernel", "online_movable")


@dataclass(slots=True)
class OfflineProgress:
    """What an offline did so far; kept even when it fails."""

    state: str
    migrated_pages: int = 0
    migrated_hugepages: int = 0
    dissolved: dict[str, int] = field(default_factory=dict)
    passes: int = 0


def set_block_state(host: Host, call: Call, cmd: SetBlockState) -> dict[str, Any]:
    """Write a memory block's state.

    Raises:
        MMError: ENOENT no such block; EINVAL an unknown word, a state already reached, holes, several zones;
            EBUSY, ENOMEM or EINTR as in offline_pages, with ``result`` telling what is kept.
    """
    if cmd.word not in WORDS:
        raise BadInput(f"must be one of {', '.join(WORDS)}, not {cmd.word!r}", where="state")
    sections = block_sections(host, cmd.block)
    online = int(host.mem.section_state[sections[0]]) == SectionState.ONLINE
    if online == (cmd.word != "offline"):
        if cmd.repeat_ok:
            return _result(call, OfflineProgress("online" if online else "offline"))
        raise BadInput(
            f"memory block {cmd.block} is {'online' if online else 'offline'} already", where="state"
        )
    if cmd.word == "offline":
        return _offline(host, call, cmd.block, sections)
    return _online(host, call, cmd.block, sections, cmd.word)


def set_auto_online(host: Host, call: Call, cmd: SetAutoOnline) -> dict[str, Any]:
    """Set what hot-added memory does by itself.  Raises EINVAL for an unknown word."""
    if cmd.word not in WORDS:
        raise BadInput(f"must be one of {', '.join(WORDS)}, not {cmd.word!r}", where="auto_online_blocks")
    host.auto_online_blocks = cmd.word
    call.emit("AutoOnlineSet", word=cmd.word)
    return {"auto_online_blocks": cmd.word}


def block_sections(host: Host, block: int) -> Blocks:
    """Sections of a memory block.  Raises ENOENT when the machine has no such block."""
    per_block = host.memory_block_pages // SECTION_PAGES
    first = block * per_block
    if block < 0 or first >= host.mem.nr_sections:
        raise NotFound(f"no memory block {block} on this host", block=block)
    sections = np.arange(first, min(first + per_block, host.mem.nr_sections))
    if not host.mem.section_state[sections].any():
        raise NotFound(f"no memory block {block} on this host", block=block)
    return sections


# -- offline ----------------------------------------------------------------------------------------------


def _offline(host: Host, call: Call, block: int, sections: Blocks) -> dict[str, Any]:
    blocks = (sections[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)).ravel()
    zone = _one_zone(host, block, blocks)
    progress = OfflineProgress("online")
    isolate(host, call, blocks)
    try:
        _empty(host, call, blocks, zone.nid, progress)
    except MMError as error:
        host.mem.set_type(blocks, Migrate.MOVABLE)
        error.result = _result(call, progress)
        call.emit("MemoryBlockOfflineFailed", block=block, errno=error.errno, reason=error.reason)
        raise
    _take_offline(host, sections, blocks, zone)
    progress.state = "offline"
    call.emit("MemoryBlockOffline", block=block, **progress.dissolved)
    return _result(call, progress)


def _result(call: Call, progress: OfflineProgress) -> dict[str, Any]:
    return {**asdict(progress), "vmemmap": vmemmap_of(call)}


def _one_zone(host: Host, block: int, blocks: Blocks) -> Zone:
    if pages_of_use(host.mem, blocks, Use.HOLE).size:
        raise BadInput(f"memory block {block} has holes", where="state", reason="memory-holes")
    zones = np.unique(host.mem.zone[blocks])
    if zones.size != 1 or zones[0] == 0:
        raise BadInput(f"memory block {block} lies in several zones", where="state", reason="multizone-range")
    return host.zones[int(zones[0]) - 1]


def _empty(host: Host, call: Call, blocks: Blocks, nid: int, progress: OfflineProgress) -> None:
    """Migrate what is movable, then dissolve free huge pages, until every page is free.

    The kernel repeats for ever; passes that leave as much as before mean that it would.
    """
    nids = other_nodes(host, nid)
    fewest, idle = None, 0
    while True:
        progress.passes += 1
        left = _migrate_pass(host, call, blocks, nids, progress)
        run_free_hpage_work(host, call)
        if left == 0:
            _dissolve_all(host, call, blocks, progress)
            if all_free(host.mem, blocks):
                return
            left = 1
        idle = idle + 1 if fewest is not None and left >= fewest else 0
        fewest = left if fewest is None else min(fewest, left)
        if idle >= IDLE_PASSES:
            raise MMError(
                "EINTR",
                f"pages of the block come back as often as they are moved: after {progress.passes} passes "
                f"{left} are still there, a real kernel goes on until a signal",
                reason="livelock",
            )


def _migrate_pass(host: Host, call: Call, blocks: Blocks, nids: list[int], progress: OfflineProgress) -> int:
    """One scan of the block; movable pages (huge ones counted once) that are still there."""
    moved, left = migrate_single_pages(host, call, blocks, nids)
    progress.migrated_pages += moved
    for hs in host.hstates.values():
        for head in used_huge_pages(host, hs, blocks).tolist():
            if migrate_huge_page(host, call, hs, head, nids):
                progress.migrated_hugepages += 1
                progress.migrated_pages += hs.pages
        left += int(used_huge_pages(host, hs, blocks).size)
    return left


def _dissolve_all(host: Host, call: Call, blocks: Blocks, progress: OfflineProgress) -> None:
    for hs in host.hstates.values():
        heads = free_huge_pages(host, hs, blocks)
        if hs.gigantic:  # one touched by the range is dissolved whole
            around = np.unique(blocks // BLOCKS_PER_1G * BLOCKS_PER_1G)
            heads = free_huge_pages(host, hs, around)
        for head in heads.tolist():
            dissolve_free_huge_page(host, call, hs, head)
            progress.dissolved[hs.size] = progress.dissolved.get(hs.size, 0) + 1


def dissolve_free_huge_page(host: Host, call: Call, hs: HState, head: int) -> None:
    """Take one free huge page out of the pool for good.

    Raises:
        MMError: EBUSY every free page is promised; ENOMEM no memory for its vmemmap: it stays as it was.
    Source: mm/hugetlb.c dissolve_free_huge_page() (5.14; surplus taken along since 6.12).
    """
    if hs.free_huge_pages - hs.resv_huge_pages == 0:
        raise MMError("EBUSY", f"all {hs.free_huge_pages} free huge pages of {hs.size} are reserved",
                      reason="all-free-pages-reserved", pfn=head * 512)  # fmt: skip
    one = np.array([head], np.int64)
    nid = host.node_of_block(head)
    surplus = host.profile.dissolve_takes_surplus and hs.surplus_node[nid] > 0
    dequeue_page(host, hs, head)
    account_pages(host, hs, one, -1, surplus=surplus)
    hs.max_huge_pages = (hs.max_huge_pages - (0 if surplus else 1)) % 2**64
    result = ResizeResult(0)
    if release(host, call, hs, one, result, batched=False).size == 0:
        return
    account_pages(host, hs, one, +1, surplus=surplus)
    enqueue(host, hs, one)
    hs.max_huge_pages = (hs.max_huge_pages + (0 if surplus else 1)) % 2**64
    failure = result.failures[nid]
    raise MMError("ENOMEM", f"no memory on node {nid} for the vmemmap of the huge page at {head * 512}",
                  reason="injected-fault" if failure.injected else "vmemmap-restore", node=nid, pfn=head * 512,
                  pages_needed=failure.pages_needed, pages_available=failure.pages_available)  # fmt: skip


def _take_offline(host: Host, sections: Blocks, blocks: Blocks, zone: Zone) -> None:
    mem = host.mem
    mem.assign_blocks(blocks, Use.OFFLINE)
    mem.flags[blocks] = 0
    mem.zone[blocks] = 0
    mem.section_state[sections] = SectionState.OFFLINE
    zone.present -= int(blocks.size) * PAGEBLOCK_PAGES
    mem.dirty[sections] = True
    mem.set_type(blocks, Migrate.MOVABLE)
    _shrink_span(host, zone)
    _memory_changed(host)


def _shrink_span(host: Host, zone: Zone) -> None:
    """The zone ends where its last online section does.

    Source: mm/memory_hotplug.c shrink_zone_span() (5.14).
    """
    left = np.flatnonzero(host.mem.zone == zone.index + 1)
    if left.size == 0:
        zone.start_pfn = zone.spanned = 0
        return
    start = max(zone.start_pfn, int(left[0]) * PAGEBLOCK_PAGES)
    end = min(zone.end_pfn, (int(left[-1]) + 1) * PAGEBLOCK_PAGES)
    zone.start_pfn, zone.spanned = start, end - start


def _memory_changed(host: Host) -> None:
    """Watermarks and reserves follow the managed pages; min_free_kbytes may change where no user set it.

    Source: mm/page_alloc.c init_per_zone_wmark_min(), mm/khugepaged.c khugepaged_min_free_kbytes_update() (5.14).
    """
    own = calculate_min_free_kbytes(host.nodes)
    if own > host.user_min_free_kbytes:
        host.min_free_kbytes = own
    setup_wmarks(host)
    setup_per_zone_lowmem_reserve(host.nodes, host.lowmem_reserve_ratio)


# -- online -----------------------------------------------------------------------------------------------


def _online(host: Host, call: Call, block: int, sections: Blocks, word: str) -> dict[str, Any]:
    mem = host.mem
    nid = int(mem.section_nid[sections[0]])
    zone = zone_for_online(host, nid, int(sections[0]) * SECTION_PAGES, word)
    blocks = (sections[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)).ravel()
    start, end = int(sections[0]) * SECTION_PAGES, (int(sections[-1]) + 1) * SECTION_PAGES
    low = min(zone.start_pfn, start) if zone.spanned else start
    high = max(zone.end_pfn, end) if zone.spanned else end
    zone.start_pfn, zone.spanned = low, high - low
    mem.zone[blocks] = zone.index + 1
    mem.section_state[sections] = SectionState.ONLINE
    zone.present += int(blocks.size) * PAGEBLOCK_PAGES
    mem.set_type(blocks, Migrate.MOVABLE)
    mem.assign_blocks(blocks, Use.BUDDY)
    mem.dirty[sections] = True
    _memory_changed(host)
    call.emit("MemoryBlockOnline", block=block, node=nid, zone=zone.name)
    return {"state": "online", "node": nid, "zone": zone.name, "migrated_pages": 0, "migrated_hugepages": 0,
            "dissolved": {}, "passes": 0,
            "vmemmap": vmemmap_of(call)}  # fmt: skip


def zone_for_online(host: Host, nid: int, start_pfn: int, word: str) -> Zone:
    """The zone that onlining puts a block into.

    Source: mm/memory_hotplug.c zone_for_pfn_range(), default_zone_for_pfn() (5.14).
    """
    zones = host.nodes[nid].zones
    kernel = zones[ZONE_DMA if start_pfn < DMA_END else ZONE_DMA32 if start_pfn < DMA32_END else ZONE_NORMAL]
    movable = zones[ZONE_MOVABLE]
    if word != "online":
        return movable if word == "online_movable" else kernel
    in_kernel, in_movable = (z.start_pfn <= start_pfn < z.end_pfn for z in (kernel, movable))
    if in_kernel != in_movable:
        return kernel if in_kernel else movable
    return movable if host.movable_node else kernel
