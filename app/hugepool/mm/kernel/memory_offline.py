"""Taking a memory block offline, step by step.

Source: mm/memory_hotplug.c offline_pages() (5.14).
"""

from dataclasses import dataclass, field
from typing import Literal

from hugepool.mm.kernel.dissolve import dissolve_free_huge_pages
from hugepool.mm.kernel.hugetlb_page import run_free_hpage_work
from hugepool.mm.kernel.memory_hotplug import pageblocks, shrink_span, zone_of_block
from hugepool.mm.kernel.migrate import (
    free_huge_pages,
    migrate_huge_page,
    migrate_single_pages,
    movable_huge_pages,
    not_migratable,
    other_nodes,
    used_huge_pages,
)
from hugepool.mm.kernel.page_isolation import all_free, isolate, pages_of_use, unisolate
from hugepool.mm.kernel.pcp import drain
from hugepool.mm.kernel.watermarks import memory_changed
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import Blocks, Migrate, SectionState, Use, Zone
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, SECTION_PAGES

IDLE_PASSES = 3  # passes without progress after which an offline would never end


@dataclass(slots=True)
class OfflineProgress:
    """What an offline did so far; kept even when it fails."""

    state: Literal["online", "offline"]
    migrated_pages: int = 0
    migrated_hugepages: int = 0
    dissolved: dict[str, int] = field(default_factory=dict)
    passes: int = 0


def offline_pages(host: Host, call: Call, block: int, sections: Blocks) -> OfflineProgress:
    """Empty a memory block and take it from its zone; a vmemmap that lies on the block itself stays there.

    Raises:
        MMError: EINVAL holes or several zones; EBUSY an unmovable page, every free huge page is promised, or (6.12)
            moved huge pages still wait for the worker;
            ENOMEM no memory for a huge page's vmemmap; EINTR it would never end.  ``result``: the progress.
    """
    blocks = pageblocks(sections)
    blocks = blocks[host.mem.use[blocks] != Use.OWN_VMEMMAP]
    zone = _one_zone(host, block, sections, blocks)
    progress = OfflineProgress("online")
    drain(host, [zone])
    zone.pcp_disabled = True
    try:
        types = isolate(host, blocks, report=call)
        try:
            _empty(host, call, blocks, zone.nid, progress)
        except MMError:
            unisolate(host, blocks, types)
            raise
    except MMError as error:
        error.result = progress
        call.emit(Event.MEMORY_BLOCK_OFFLINE_FAILED, block=block, errno=error.errno, reason=error.reason)
        raise
    finally:
        zone.pcp_disabled = False
    _take_offline(host, sections, blocks, zone)
    progress.state = "offline"
    call.emit(Event.MEMORY_BLOCK_OFFLINE, block=block, **progress.dissolved)
    return progress


def _one_zone(host: Host, block: int, sections: Blocks, blocks: Blocks) -> Zone:
    there = int((host.mem.section_state[sections] != SectionState.ABSENT).sum())
    if there * SECTION_PAGES != host.memory_block_pages or pages_of_use(host.mem, blocks, Use.HOLE).size:
        raise BadInput(f"memory block {block} has holes", where="state", reason=Reason.MEMORY_HOLES)
    zone = zone_of_block(host, block)
    if zone is None or (host.mem.zone[blocks] == 0).any():
        raise BadInput(
            f"memory block {block} lies in no single zone", where="state", reason=Reason.MULTIZONE_RANGE
        )
    return zone


def _empty(host: Host, call: Call, blocks: Blocks, nid: int, progress: OfflineProgress) -> None:
    """Migrate what is movable, then dissolve free huge pages, until every page is free.

    The kernel repeats for ever; passes that leave as much as before mean that it would.
    """
    nids = other_nodes(host, nid)
    fewest, idle = None, 0
    while True:
        progress.passes += 1
        left = _migrate_pass(host, call, blocks, nids, progress)
        if left == 0 and host.profile.restore_waits:
            _refuse_in_flight(host, blocks)
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
                reason=Reason.LIVELOCK,
            )


def _migrate_pass(host: Host, call: Call, blocks: Blocks, nids: list[int], progress: OfflineProgress) -> int:
    """One scan of the block; movable pages (huge ones counted once) that are still there."""
    moved, left = migrate_single_pages(host, call, blocks, nids)
    progress.migrated_pages += moved
    for hs in host.hstates.values():
        for head in movable_huge_pages(host, hs, blocks).tolist():
            if migrate_huge_page(host, call, hs, head, nids):
                progress.migrated_hugepages += 1
                progress.migrated_pages += hs.pages
        left += int(movable_huge_pages(host, hs, blocks).size)
    return left


def _refuse_in_flight(host: Host, blocks: Blocks) -> None:
    """Dissolving meets pages that the worker has not freed yet: it waits for them only while unpromised pages are left.

    Raises:
        MMError: EBUSY.
    Source: mm/hugetlb.c dissolve_free_hugetlb_folio() (6.12).
    """
    inside = set(blocks.tolist())
    waiting = [queued for queued in host.deferred if queued.block in inside]
    for queued in waiting:
        hs = host.hstate(queued.order)
        if hs.free_huge_pages - hs.resv_huge_pages == 0:
            raise MMError(
                "EBUSY",
                f"{len(waiting)} huge pages of the block wait for the deferred-free worker, "
                f"and no free huge page of {hs.size} is unpromised",
                reason=Reason.IN_FLIGHT, pfn=queued.block * PAGEBLOCK_PAGES,
            )  # fmt: skip


def _dissolve_all(host: Host, call: Call, blocks: Blocks, progress: OfflineProgress) -> None:
    for hs in host.hstates.values():
        heads, stays = free_huge_pages(host, hs, blocks), used_huge_pages(host, hs, blocks)
        if stays.size:
            heads = heads[heads < stays[0]]
        done, refusal = dissolve_free_huge_pages(host, call, hs, heads)
        if done:
            progress.dissolved[hs.size] = progress.dissolved.get(hs.size, 0) + done
        if refusal is not None:
            raise refusal
        if stays.size:
            raise not_migratable(int(stays[0]))


def _take_offline(host: Host, sections: Blocks, blocks: Blocks, zone: Zone) -> None:
    mem = host.mem
    mem.assign_blocks(blocks, Use.OFFLINE)
    mem.flags[blocks] = 0
    mem.set_type(blocks, Migrate.MOVABLE)
    everything = pageblocks(sections)
    mem.zone[everything] = 0
    mem.section_state[sections] = SectionState.OFFLINE
    zone.present -= int(everything.size) * PAGEBLOCK_PAGES
    mem.dirty[sections] = True
    shrink_span(host, zone, int(sections[0]) * SECTION_PAGES, (int(sections[-1]) + 1) * SECTION_PAGES)
    memory_changed(host)
