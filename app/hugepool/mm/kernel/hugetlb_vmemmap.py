"""Giving the vmemmap of huge pages back to the system, and taking it again.

Source: mm/hugetlb_vmemmap.c (5.14, 6.1, 6.12): free_huge_page_vmemmap(), alloc_huge_page_vmemmap().
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.page_alloc import alloc_pages, allocatable, node_zonelist, take_pages, zonelist
from hugepool.mm.kernel.pcp import cache_freed
from hugepool.mm.kernel.sparse import on_own_memory
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    NO_PFNS,
    ZONE_NORMAL,
    BlockFlag,
    Blocks,
    Mask,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    Zone,
)
from hugepool.mm.machine.sparse_vmemmap import PTE_RO, PTE_RW, Ptes, make_pte, pte_pfn
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, PTRS_PER_PTE, SECTIONS_PER_1G, VMEMMAP_PER_BLOCK

SPLAT_INTERVAL_NS = 10_000_000_000  # printk rate limit: one allocation failure in 10 s


@dataclass(frozen=True, slots=True)
class VmemmapRestoreFailed:
    """Why a huge page kept its vmemmap: frames needed, frames the node's kernel zones could give."""

    node: int
    pages_needed: int
    pages_available: int
    injected: bool


def vmemmap_sections(hs: HState, heads: Blocks) -> npt.NDArray[np.int64]:
    """Sorted, unique sections whose vmemmap describes the huge pages."""
    if heads.size == 0:
        return NO_BLOCKS
    turn = _sections_in_turn(hs, heads)
    lowest = int(turn.min())
    touched = np.zeros(int(turn.max()) - lowest + 1, np.bool_)
    touched[turn - lowest] = True
    return np.flatnonzero(touched) + lowest


def _first_touched(hs: HState, heads: Blocks) -> npt.NDArray[np.int64]:
    """The same sections in the order in which the pages come to them."""
    if heads.size == 0:
        return NO_BLOCKS
    turn = _sections_in_turn(hs, heads)
    lowest = int(turn.min())
    where = np.full(int(turn.max()) - lowest + 1, -1, np.int64)
    where[turn[::-1] - lowest] = np.arange(turn.size)[::-1]  # of equal indexes the last one written stays
    sections = np.flatnonzero(where >= 0)
    ordered: Blocks = sections[np.argsort(where[sections])] + lowest
    return ordered


def _sections_in_turn(hs: HState, heads: Blocks) -> npt.NDArray[np.int64]:
    first = heads // BLOCKS_PER_SECTION
    return (first[:, None] + np.arange(SECTIONS_PER_1G)).ravel() if hs.gigantic else first


# -- freeing ----------------------------------------------------------------------------------------------


def optimize(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """Free the vmemmap of fresh huge pages, in the order given; a page that cannot be is left as it is.

    A PMD is split on demand; no page-table page, and the huge page stays unoptimised: no one is told.
    Source: mm/hugetlb_vmemmap.c free_huge_page_vmemmap() (5.14); hugetlb_vmemmap_optimize_folios() (6.12).
    """
    if not host.optimize_enabled or hs.nr_free_vmemmap_pages == 0 or heads.size == 0:
        return
    heads = heads[~on_own_memory(host.mem, heads // BLOCKS_PER_SECTION)]
    fault = host.faults.get(FaultPoint.VMEMMAP_PAGE_TABLE)
    if fault and fault.armed:
        for head in heads.tolist():
            _optimize_one(host, call, hs, head)
        return
    while heads.size:
        _split(host, call, _first_touched(hs, heads))
        split = _are_split(host.mem, hs, heads)
        if split[0]:
            count = leading(split)
            _remap_free(host, call, hs, heads[:count])
        else:  # no page table for these: they stay as they are
            count = leading(~split)
        heads = heads[count:]


def _are_split(mem: MemoryMap, hs: HState, heads: Blocks) -> Mask:
    """Huge pages all of whose vmemmap PMDs are split."""
    turn = _sections_in_turn(hs, heads).reshape(heads.size, -1)
    split: Mask = (mem.pte_slot[turn] != 0).all(axis=1)
    return split


def leading(mask: Mask) -> int:
    """How many leading entries are true."""
    stops = np.flatnonzero(~mask)
    return int(stops[0]) if stops.size else int(mask.size)


def _optimize_one(host: Host, call: Call, hs: HState, head: int) -> None:
    """One huge page under fault injection: each unsplit PMD asks for its page table in turn."""
    one = np.array([head], np.int64)
    fault = host.faults[FaultPoint.VMEMMAP_PAGE_TABLE]
    for section in sparse_vmemmap.unsplit_sections(host.mem, vmemmap_sections(hs, one)).tolist():
        if fault.should_fail():
            call.injected = True
            return
        _split(host, call, np.array([section], np.int64))
    if _are_split(host.mem, hs, one)[0]:
        _remap_free(host, call, hs, one)


def _split(host: Host, call: Call, sections: npt.NDArray[np.int64]) -> None:
    """Split the PMDs of sections, as many as page tables can be had for; those split stay split."""
    fresh = sparse_vmemmap.unsplit_sections(host.mem, sections)
    if fresh.size == 0:
        return
    zones = zonelist(host.nodes, host.memory_nodes()[0], ZONE_NORMAL)
    tables = alloc_pages(host.mem, zones, fresh.size, Migrate.UNMOVABLE, ZONE_NORMAL, Use.PAGE_TABLE)
    if tables.size == 0 and host.profile.bulk:
        tables = _just_freed(host, zones, fresh.size, Use.PAGE_TABLE)
    fresh = fresh[: tables.size]
    if fresh.size == 0:
        return
    sparse_vmemmap.split_vmemmap_huge_pmd(host.mem, fresh, tables)
    call.vmemmap.page_table_pages += int(fresh.size)
    call.emit(Event.VMEMMAP_SPLIT, sections=_summary(fresh))


def _remap_free(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """Point all but the kept virtual pages at one shared frame, read-only, and free the old frames."""
    if not host.profile.fresh_head_frame:
        _remap_free_now(host, call, hs, heads, None)
        return
    while heads.size:
        frames = _head_frames(host, heads)
        _remap_free_now(host, call, hs, heads[: frames.size], frames)
        heads = heads[frames.size :]
        if frames.size == 0:  # there is no frame left, and these pages will free none
            return


def _head_frames(host: Host, heads: Blocks) -> Pfns:
    """New frames for kept pages, of the huge page's own node if possible; fewer when memory runs short (6.12)."""
    frames = np.full(heads.size, -1, np.int64)
    nids = nids_of(host, heads)
    for nid in np.unique(nids):
        mine = np.flatnonzero(nids == nid)
        zones = restore_zones(host, int(nid))
        got = alloc_pages(host.mem, zones, mine.size, Migrate.UNMOVABLE, ZONE_NORMAL, Use.VMEMMAP)
        if got.size == 0:
            got = _just_freed(host, zones, mine.size, Use.VMEMMAP)
        frames[mine[: got.size]] = got
    missing = np.flatnonzero(frames < 0)
    served = int(missing[0]) if missing.size else heads.size
    beyond = frames[served:]
    host.mem.assign_pages(beyond[beyond >= 0], Use.BUDDY)
    return frames[:served]


def _just_freed(host: Host, zones: list[Zone], count: int, use: Use) -> Pfns:
    """Under the watermark, the frames that earlier pages of the batch gave back are reused.

    Source: mm/hugetlb_vmemmap.c hugetlb_vmemmap_optimize_folios(): the list is freed and the page tried again.
    """
    for zone in zones:
        if zone.nr_cached:
            got = take_pages(host.mem, zone, min(zone.nr_cached, count), Migrate.UNMOVABLE, use)
            zone.nr_cached -= int(got.size)
            return got
    return NO_PFNS


def nids_of(host: Host, blocks: Blocks) -> npt.NDArray[np.int64]:
    """Node numbers of pageblocks."""
    of_zone = np.array([-1] + [zone.nid for zone in host.zones], np.int64)
    return of_zone[host.mem.zone[blocks]]


def per_node(host: Host, blocks: Blocks) -> list[tuple[int, int]]:
    """How many of the pageblocks each node has: (nid, count) for those that have any, by node."""
    by_zone = np.bincount(host.mem.zone[blocks], minlength=len(host.zones) + 1).tolist()
    found: dict[int, int] = {}
    for zone in host.zones:
        if by_zone[zone.index + 1]:
            found[zone.nid] = found.get(zone.nid, 0) + by_zone[zone.index + 1]
    return sorted(found.items())


def _remap_free_now(host: Host, call: Call, hs: HState, heads: Blocks, fresh: Pfns | None) -> None:
    if heads.size == 0:
        return
    mem = host.mem
    regular = _all_regular(mem, hs, heads) if fresh is None else np.zeros(heads.size, np.bool_)
    lost = _free_regular(host, hs, heads[regular])
    lost += _remap_words(host, hs, heads[~regular], fresh)
    mem.flags[heads] |= BlockFlag.OPTIMIZED
    mem.mark_dirty(heads)
    hs.nr_optimized += int(heads.size)
    call.vmemmap.pages_freed += int(heads.size) * hs.nr_free_vmemmap_pages - lost


def _all_regular(mem: MemoryMap, hs: HState, heads: Blocks) -> Mask:
    """Huge pages all of whose vmemmap is mapped as splitting left it: optimising needs no word written."""
    if not hs.gigantic:
        small: Mask = mem.pte_slot[heads // BLOCKS_PER_SECTION] == sparse_vmemmap.REGULAR
        return small
    sections = heads[:, None] // BLOCKS_PER_SECTION + np.arange(SECTIONS_PER_1G)
    regular: Mask = (mem.pte_slot[sections] == sparse_vmemmap.REGULAR).all(axis=1)
    return regular


def _free_regular(host: Host, hs: HState, heads: Blocks) -> int:
    """Free the frames behind regular tables: whole patterns of the pageblocks that hold the vmemmap; those lost."""
    if heads.size == 0:
        return 0
    mem = host.mem
    sections = vmemmap_sections(hs, heads)
    if hs.gigantic:
        mask = np.ones((sections.size, PTRS_PER_PTE), np.bool_)
        mask[np.searchsorted(sections, heads // BLOCKS_PER_SECTION), : mem.kept] = False
    else:
        row_of = np.zeros(int(sections[-1] - sections[0]) + 1, np.int64)
        row_of[sections - sections[0]] = np.arange(sections.size)
        freed = np.zeros((sections.size, BLOCKS_PER_SECTION), np.bool_)
        freed[row_of[heads // BLOCKS_PER_SECTION - sections[0]], heads % BLOCKS_PER_SECTION] = True
        mask = freed.repeat(VMEMMAP_PER_BLOCK, axis=1)
        mask.reshape(sections.size, BLOCKS_PER_SECTION, VMEMMAP_PER_BLOCK)[:, :, : mem.kept] = False
    blocks = mem.vmemmap_pfn[sections] // PTRS_PER_PTE
    lossy = host.profile.hot_added_frames_lost & mem.hot_added[sections]
    mem.assign_masked(blocks[~lossy], mask[~lossy], Use.BUDDY)
    mem.assign_masked(blocks[lossy], mask[lossy], Use.LOST)
    _count_freed(host, blocks[~lossy], mask[~lossy].sum(axis=1))
    return int(mask[lossy].sum())


def _remap_words(host: Host, hs: HState, heads: Blocks, fresh: Pfns | None) -> int:
    """Rewrite the page-table words of huge pages and free the frames they mapped before; those lost."""
    if heads.size == 0:
        return 0
    mem, kept = host.mem, host.mem.kept
    sparse_vmemmap.own_tables(mem, vmemmap_sections(hs, heads))
    ptes = _ptes(mem, hs, heads)
    if fresh is None:
        freed = pte_pfn(ptes[:, kept:])
        shared = pte_pfn(ptes[:, kept - 1 : kept])
    else:
        freed = pte_pfn(ptes)
        shared = fresh[:, None]
        ptes[:, 0] = make_pte(fresh, PTE_RW)
    ptes[:, kept:] = make_pte(shared, PTE_RO)
    _set_ptes(mem, hs, heads, ptes)
    return _release_frames(host, freed.ravel())


def _release_frames(host: Host, frames: Pfns) -> int:
    """Give vmemmap frames to the zones they lie in; boot frames become managed (MemTotal grows).

    On 5.14 the frames of a hot-added section are tail pages of one unsplit order-9 block and get lost.
    Source: include/linux/bootmem_info.h free_bootmem_page(), mm/sparse-vmemmap.c free_vmemmap_page() (5.14).
    """
    mem, before = host.mem, int(frames.size)
    if host.profile.hot_added_frames_lost and mem.hot_added.any():
        lost = mem.uses_of(frames) == Use.VMEMMAP_COMPOUND
        mem.assign_pages(frames[lost], Use.LOST)
        frames = frames[~lost]
    mem.assign_pages(frames, Use.BUDDY)
    blocks, counts = np.unique(frames >> 9, return_counts=True)
    _count_freed(host, blocks, counts)
    return before - int(frames.size)


def _count_freed(host: Host, blocks: Blocks, counts: npt.NDArray[np.int64]) -> None:
    """Frames rest on the CPU's list.

    Pages that made a pageblock whole again have merged, and a huge page can count on them, but for kernels that
    free a whole batch at once: there the lists still hold them.
    """
    mem = host.mem
    resting = mem.use[blocks] == Use.MIXED if not host.profile.bulk else np.ones(blocks.size, np.bool_)
    weights = counts * resting
    by_zone = np.bincount(mem.zone[blocks], weights=weights, minlength=len(host.zones) + 1)
    for zone in host.zones:
        count = int(by_zone[zone.index + 1])
        if count:
            cache_freed(host, zone, count)


# -- restoring --------------------------------------------------------------------------------------------


def restore_zones(host: Host, nid: int) -> list[Zone]:
    """The zones that may pay for a restore: the node's own kernel zones, later kernels any node's.

    Source: mm/hugetlb_vmemmap.c alloc_vmemmap_page_list(): GFP_KERNEL, __GFP_THISNODE until 6.6.
    """
    if host.profile.restore_thisnode:
        return node_zonelist(host.nodes[nid], ZONE_NORMAL)
    return zonelist(host.nodes, nid, ZONE_NORMAL)


def available_for_restore(host: Host, nid: int) -> int:
    """Order-0 pages that restores of this node's huge pages may take now."""
    return allocatable(restore_zones(host, nid), ZONE_NORMAL)


def restore(host: Host, call: Call, hs: HState, heads: Blocks, frames: Pfns | None = None) -> None:
    """Restore the vmemmap of optimised huge pages; the caller has made sure that the frames are there.

    ``frames``: which ones, taken already; all of the huge pages lie on one node then.
    Every freed virtual page gets a frame of its own again, writable; the frames are unmovable.
    Source: mm/hugetlb_vmemmap.c alloc_huge_page_vmemmap() (5.14).
    """
    if heads.size == 0:
        return
    mem, kept, per_page = host.mem, host.profile.reserved_vmemmap_pages, hs.nr_free_vmemmap_pages
    nids = nids_of(host, heads)
    for nid in np.unique(nids):
        mine = heads[nids == nid]
        zones = restore_zones(host, int(nid))
        taken = frames
        if taken is None:
            count = mine.size * per_page
            taken = alloc_pages(mem, zones, count, Migrate.UNMOVABLE, ZONE_NORMAL, Use.VMEMMAP)
        by_zone = np.bincount(mem.zone[taken >> 9]).tolist()
        call.restored_frames.update({zone_id - 1: count for zone_id, count in enumerate(by_zone) if count})
        sparse_vmemmap.own_tables(mem, vmemmap_sections(hs, mine))
        ptes = _ptes(mem, hs, mine)
        ptes[:, kept:] = make_pte(taken.reshape(mine.size, per_page), PTE_RW)
        _set_ptes(mem, hs, mine, ptes)
    mem.flags[heads] &= 255 - BlockFlag.OPTIMIZED
    hs.nr_optimized -= int(heads.size)
    call.vmemmap.pages_restored += int(heads.size) * per_page


def injected_failure(host: Host, call: Call, hs: HState) -> bool:
    """Whether fault injection fails one of the order-0 requests of restoring one huge page.

    All or nothing: the pages taken before the failing request are given back.
    """
    fault = host.faults.get(FaultPoint.VMEMMAP_RESTORE)
    if fault is None or not fault.armed:
        return False
    for _ in range(hs.nr_free_vmemmap_pages):
        if fault.should_fail():
            call.injected = True
            return True
    return False


def warn_alloc(host: Host, call: Call) -> None:
    """The allocator's console line, at most one in 10 s.

    Source: mm/page_alloc.c warn_alloc() with its rate limit (5.14).
    """
    last = host.last_splat_ns
    if last is not None and call.now_ns - last < SPLAT_INTERVAL_NS:
        return
    host.last_splat_ns = call.now_ns
    allowed = _id_list(host.memory_nodes())
    call.printk(
        f"{call.comm}: page allocation failure: order:0, mode:{host.profile.restore_gfp_text}, "
        f"nodemask=(null),cpuset=/,mems_allowed={allowed}"
    )


# -- PTEs of a huge page, whatever its size ---------------------------------------------------------------


def _ptes(mem: MemoryMap, hs: HState, heads: Blocks) -> npt.NDArray[np.int64]:
    if not hs.gigantic:
        return sparse_vmemmap.block_ptes(mem, heads)
    sections = heads[:, None] // BLOCKS_PER_SECTION + np.arange(SECTIONS_PER_1G)
    words: Ptes = mem.pte[mem.pte_slot[sections]].reshape(heads.size, SECTIONS_PER_1G * PTRS_PER_PTE)
    return words


def _set_ptes(mem: MemoryMap, hs: HState, heads: Blocks, ptes: npt.NDArray[np.int64]) -> None:
    if not hs.gigantic:
        sparse_vmemmap.set_block_ptes(mem, heads, ptes)
        return
    sections = heads[:, None] // BLOCKS_PER_SECTION + np.arange(SECTIONS_PER_1G)
    mem.pte[mem.pte_slot[sections]] = ptes.reshape(heads.size, SECTIONS_PER_1G, PTRS_PER_PTE)
    mem.dirty[sections.ravel()] = True


def _summary(sections: npt.NDArray[np.int64]) -> dict[str, int]:
    return {"count": int(sections.size), "first": int(sections.min()), "last": int(sections.max())}


def _id_list(ids: list[int]) -> str:
    """Numbers as the kernel prints lists: ``0-1,3``."""
    parts: list[str] = []
    for i in ids:
        if parts and int(parts[-1].split("-")[-1]) == i - 1:
            parts[-1] = f"{parts[-1].split('-')[0]}-{i}"
        else:
            parts.append(str(i))
    return ",".join(parts)
