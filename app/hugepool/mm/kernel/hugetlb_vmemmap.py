"""The vmemmap of huge pages: remapping it so that frames are free, and giving it frames again.

Which huge pages are remapped, in which order and at what cost, is in ``optimize``.
Source: mm/hugetlb_vmemmap.c (5.14, 6.1, 6.12): free_huge_page_vmemmap(), alloc_huge_page_vmemmap().
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.page_alloc import (
    alloc_pages,
    allocatable,
    node_zonelist,
    setup_per_zone_lowmem_reserve,
    zonelist,
)
from hugepool.mm.kernel.pcp import cache_freed
from hugepool.mm.kernel.vmscan import failing_attempts
from hugepool.mm.machine import sparse_vmemmap
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
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    PAGEBLOCK_PAGES,
    PTRS_PER_PTE,
    SECTIONS_PER_1G,
    VMEMMAP_PER_BLOCK,
)

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
    turn = sections_in_turn(hs, heads)
    lowest = int(turn.min())
    touched = np.zeros(int(turn.max()) - lowest + 1, np.bool_)
    touched[turn - lowest] = True
    return np.flatnonzero(touched) + lowest


def sections_in_turn(hs: HState, heads: Blocks) -> npt.NDArray[np.int64]:
    """The same page by page, so that a section comes up again and again."""
    first = heads // BLOCKS_PER_SECTION
    return (first[:, None] + np.arange(SECTIONS_PER_1G)).ravel() if hs.gigantic else first


# -- freeing ----------------------------------------------------------------------------------------------


def leading(mask: Mask) -> int:
    """How many leading entries are true."""
    stops = np.flatnonzero(~mask)
    return int(stops[0]) if stops.size else int(mask.size)


def nids_of(host: Host, blocks: Blocks) -> npt.NDArray[np.int64]:
    """Node numbers of pageblocks."""
    of_zone = np.array([-1] + [zone.nid for zone in host.zones], np.int64)
    return of_zone[host.mem.zone[blocks]]


def per_node(host: Host, blocks: Blocks) -> list[tuple[int, int]]:
    """How many of the pageblocks each node has: (nid, count) for those that have any, by node."""
    by_zone = np.bincount(host.mem.zone[blocks], minlength=len(host.zones) + 1).tolist()
    found: dict[int, int] = {}
    for zone in host.zones:
        if by_zone[zone.id]:
            found[zone.nid] = found.get(zone.nid, 0) + by_zone[zone.id]
    return sorted(found.items())


def remap_free(host: Host, call: Call, hs: HState, heads: Blocks, fresh: Pfns | None) -> Pfns:
    """Point all but the kept virtual pages of huge pages at one shared frame, read-only.

    Args:
        heads: huge pages whose PMDs are split.
        fresh: a new frame for the kept page of each, -1 where there is none; None where the kernel uses none.

    Returns:
        The frames that are not mapped any more, for ``release_frames``.
    Source: mm/hugetlb_vmemmap.c vmemmap_remap_free() (5.14, 6.12).
    """
    if heads.size == 0:
        return NO_PFNS
    mem = host.mem
    regular = _all_regular(mem, hs, heads) if fresh is None else np.zeros(heads.size, np.bool_)
    lost = _free_regular(host, hs, heads[regular])
    freed = _remap_words(host, hs, heads[~regular], fresh)
    mem.flags[heads] |= BlockFlag.OPTIMIZED
    mem.mark_dirty(heads)
    hs.nr_optimized += int(heads.size)
    call.vmemmap.pages_freed += int(heads.size) * hs.nr_free_vmemmap_pages - lost
    return freed


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


def _remap_words(host: Host, hs: HState, heads: Blocks, fresh: Pfns | None) -> Pfns:
    """Rewrite the page-table words of huge pages; the frames that they mapped before and do not any more."""
    if heads.size == 0:
        return NO_PFNS
    mem, kept = host.mem, host.mem.kept
    sparse_vmemmap.own_tables(mem, vmemmap_sections(hs, heads))
    ptes = ptes_of(mem, hs, heads)
    freed = pte_pfn(ptes[:, kept:]).ravel()
    if fresh is not None:  # the head's frame goes as well, where there is another one for it
        renewed = fresh >= 0
        freed = np.concatenate((pte_pfn(ptes[renewed, 0]), freed))
        ptes[renewed, 0] = make_pte(fresh[renewed], PTE_RW)
    ptes[:, kept:] = make_pte(pte_pfn(ptes[:, kept - 1 : kept]), PTE_RO)
    set_ptes(mem, hs, heads, ptes)
    return freed


def release_frames(host: Host, call: Call, frames: Pfns) -> None:
    """Give vmemmap frames to the zones they lie in; boot frames become managed (MemTotal grows).

    On 5.14 the frames of a hot-added section are tail pages of one unsplit order-9 block and get lost.  The one
    frame of an early gigantic page is registered as often as it is mapped, and so is never freed (6.18).
    Source: include/linux/bootmem_info.h free_bootmem_page(), mm/sparse-vmemmap.c free_vmemmap_page() (5.14);
    mm/bootmem_info.c register_page_bootmem_memmap() (6.18).
    """
    mem = host.mem
    if host.profile.hot_added_frames_lost and mem.hot_added.any():
        lost = mem.uses_of(frames) == Use.VMEMMAP_COMPOUND
        mem.assign_pages(frames[lost], Use.LOST)
        call.vmemmap.pages_freed -= int(lost.sum())
        frames = frames[~lost]
    if host.profile.early_vmemmap:
        early = mem.uses_of(frames) == Use.EARLY_VMEMMAP
        mem.assign_pages(frames[early], Use.RESERVED)
        call.vmemmap.pages_freed -= int(early.sum())
        frames = frames[~early]
    mem.assign_pages(frames, Use.BUDDY)
    blocks, counts = np.unique(frames // PAGEBLOCK_PAGES, return_counts=True)
    _count_freed(host, blocks, counts)
    if host.profile.reserves_follow_managed:
        setup_per_zone_lowmem_reserve(host.nodes, host.lowmem_reserve_ratio)


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
        count = int(by_zone[zone.id])
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


def failing_restores(host: Host, heads: Blocks, need: int) -> int:
    """How many leading ones of some optimised pages of a node find no frames, though each request may reclaim."""
    if heads.size == 0:
        return 0
    nid = host.node_of_block(int(heads[0]))
    if available_for_restore(host, nid) >= need:
        return 0
    return failing_attempts(host, restore_zones(host, nid), ZONE_NORMAL, need, int(heads.size))


def restore(host: Host, call: Call, hs: HState, heads: Blocks, frames: Pfns | None = None) -> None:
    """Restore the vmemmap of optimised huge pages; the caller has made sure that the frames are there.

    ``frames``: which ones, taken already; all of the huge pages lie on one node then.
    Every freed virtual page gets its own frame again, writable; the frames are unmovable.
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
        by_zone = np.bincount(mem.zone[taken // PAGEBLOCK_PAGES]).tolist()
        call.restored_frames.update({zone_id - 1: count for zone_id, count in enumerate(by_zone) if count})
        sparse_vmemmap.own_tables(mem, vmemmap_sections(hs, mine))
        ptes = ptes_of(mem, hs, mine)
        ptes[:, kept:] = make_pte(taken.reshape(mine.size, per_page), PTE_RW)
        set_ptes(mem, hs, mine, ptes)
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


def ptes_of(mem: MemoryMap, hs: HState, heads: Blocks) -> npt.NDArray[np.int64]:
    """The PTEs that map the struct pages of huge pages, a row each; their sections own their tables."""
    if not hs.gigantic:
        return sparse_vmemmap.block_ptes(mem, heads)
    sections = heads[:, None] // BLOCKS_PER_SECTION + np.arange(SECTIONS_PER_1G)
    words: Ptes = mem.pte[mem.pte_slot[sections]].reshape(heads.size, SECTIONS_PER_1G * PTRS_PER_PTE)
    return words


def set_ptes(mem: MemoryMap, hs: HState, heads: Blocks, ptes: npt.NDArray[np.int64]) -> None:
    """Store them."""
    if not hs.gigantic:
        sparse_vmemmap.set_block_ptes(mem, heads, ptes)
        return
    sections = heads[:, None] // BLOCKS_PER_SECTION + np.arange(SECTIONS_PER_1G)
    mem.pte[mem.pte_slot[sections]] = ptes.reshape(heads.size, SECTIONS_PER_1G, PTRS_PER_PTE)
    mem.dirty[sections.ravel()] = True


def _id_list(ids: list[int]) -> str:
    """Numbers as the kernel prints lists: ``0-1,3``."""
    parts: list[str] = []
    for i in ids:
        if parts and int(parts[-1].split("-")[-1]) == i - 1:
            parts[-1] = f"{parts[-1].split('-')[0]}-{i}"
        else:
            parts.append(str(i))
    return ",".join(parts)
