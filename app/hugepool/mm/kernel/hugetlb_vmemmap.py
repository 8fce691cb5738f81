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
from hugepool.mm.kernel.pcp import free_pages
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
    width = hs.nr_free_vmemmap_pages + int(fresh is not None)
    frames = np.empty((heads.size, width), np.int64)
    if regular.any():
        frames[regular] = regular_frames(mem, hs, heads[regular])
    if not regular.all():
        frames[~regular] = _remap_words(mem, hs, heads[~regular], fresh)
    mem.flags[heads] |= BlockFlag.OPTIMIZED
    mem.mark_dirty(heads)
    hs.nr_optimized += int(heads.size)
    call.vmemmap.pages_freed += int(heads.size) * hs.nr_free_vmemmap_pages
    freed = frames.ravel()
    return freed[freed >= 0]


def _all_regular(mem: MemoryMap, hs: HState, heads: Blocks) -> Mask:
    """Huge pages all of whose vmemmap is mapped as splitting left it: optimising needs no word written."""
    if not hs.gigantic:
        small: Mask = mem.pte_slot[heads // BLOCKS_PER_SECTION] == sparse_vmemmap.REGULAR
        return small
    sections = heads[:, None] // BLOCKS_PER_SECTION + np.arange(SECTIONS_PER_1G)
    regular: Mask = (mem.pte_slot[sections] == sparse_vmemmap.REGULAR).all(axis=1)
    return regular


def regular_frames(mem: MemoryMap, hs: HState, heads: Blocks) -> Pfns:
    """The frames that optimising huge pages with regular tables frees, one row for each."""
    sections = heads // BLOCKS_PER_SECTION
    if hs.gigantic:
        every = mem.vmemmap_pfn[sections[:, None] + np.arange(SECTIONS_PER_1G)]
        whole: Pfns = (every[:, :, None] + np.arange(PTRS_PER_PTE)).reshape(heads.size, -1)
        return whole[:, mem.kept :]
    first = mem.vmemmap_pfn[sections] + heads % BLOCKS_PER_SECTION * VMEMMAP_PER_BLOCK
    frames: Pfns = first[:, None] + np.arange(mem.kept, VMEMMAP_PER_BLOCK)
    return frames


def pattern_of(mem: MemoryMap, hs: HState, heads: Blocks) -> tuple[Blocks, Mask]:
    """The same frames of huge pages of 2 MiB as pageblocks and a mask of their pages."""
    sections = vmemmap_sections(hs, heads)
    row_of = np.zeros(int(sections[-1] - sections[0]) + 1, np.int64)
    row_of[sections - sections[0]] = np.arange(sections.size)
    freed = np.zeros((sections.size, BLOCKS_PER_SECTION), np.bool_)
    freed[row_of[heads // BLOCKS_PER_SECTION - sections[0]], heads % BLOCKS_PER_SECTION] = True
    mask: Mask = freed.repeat(VMEMMAP_PER_BLOCK, axis=1)
    mask.reshape(sections.size, BLOCKS_PER_SECTION, VMEMMAP_PER_BLOCK)[:, :, : mem.kept] = False
    return mem.vmemmap_pfn[sections] // PTRS_PER_PTE, mask


def map_shared(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """Huge pages with regular page tables are optimised: their frames were freed already."""
    host.mem.flags[heads] |= BlockFlag.OPTIMIZED
    host.mem.mark_dirty(heads)
    hs.nr_optimized += int(heads.size)
    call.vmemmap.pages_freed += int(heads.size) * hs.nr_free_vmemmap_pages


def _remap_words(mem: MemoryMap, hs: HState, heads: Blocks, fresh: Pfns | None) -> Pfns:
    """Rewrite the page-table words of huge pages; the frames that they mapped before, one row for each.

    With ``fresh``, the first of a row is the old frame of the kept page, or -1 where that stays.
    """
    kept = mem.kept
    sparse_vmemmap.own_tables(mem, vmemmap_sections(hs, heads))
    ptes = ptes_of(mem, hs, heads)
    freed = pte_pfn(ptes[:, kept:]) if fresh is None else pte_pfn(ptes)
    if fresh is not None:
        new = fresh >= 0
        ptes[new, 0] = make_pte(fresh[new], PTE_RW)
        freed[~new, 0] = -1
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
    free_pages(
        host, frames[::-1] if host.profile.bulk else frames
    )  # a list, used from its head or from its tail
    if host.profile.reserves_follow_managed:
        setup_per_zone_lowmem_reserve(host.nodes, host.lowmem_reserve_ratio)


# -- restoring --------------------------------------------------------------------------------------------


def restore_zones(host: Host, nid: int) -> list[Zone]:
    """The zones that may pay for a restore: the node's own kernel zones, later kernels any node's.

    Source: mm/hugetlb_vmemmap.c alloc_vmemmap_page_list(): GFP_KERNEL, __GFP_THISNODE until 6.6.
    """
    if host.profile.restore_thisnode:
        return node_zonelist(host.nodes[nid], ZONE_NORMAL)
    return zonelist(host.nodes, nid, ZONE_NORMAL)


def available_for_restore(host: Host, nid: int) -> int:
    """Order-0 pages that the buddy can give to restores of a node's huge pages above the watermarks."""
    return allocatable(restore_zones(host, nid), ZONE_NORMAL)


def restore_many(host: Host, call: Call, hs: HState, heads: Blocks) -> int:
    """Restore the vmemmap of huge pages in order, until one has no frames; how many leading ones have it now.

    Every freed virtual page gets a frame of its own again, writable; the frames are unmovable.  All or nothing for each
    huge page: the frames of the one that fails are given back.
    Source: mm/hugetlb_vmemmap.c alloc_huge_page_vmemmap() (5.14), hugetlb_vmemmap_restore_folios() (6.12).
    """
    optimized = np.flatnonzero(host.mem.flags[heads] & BlockFlag.OPTIMIZED)
    fault = host.faults.get(FaultPoint.VMEMMAP_RESTORE)
    if fault is not None and fault.armed:
        runs = np.split(optimized, np.arange(1, optimized.size))
    else:
        runs = np.split(optimized, np.flatnonzero(np.diff(nids_of(host, heads[optimized]))) + 1)
    for run in runs:
        if run.size == 0:
            continue
        if injected_failure(host, call, hs):
            return int(run[0])
        done = _restore_on_node(host, call, hs, heads[run])
        if done < run.size:
            return int(run[done])
    return int(heads.size)


def _restore_on_node(host: Host, call: Call, hs: HState, heads: Blocks) -> int:
    """Restore optimised huge pages of one node, as many as there are frames for; how many."""
    need = hs.nr_free_vmemmap_pages
    zones = restore_zones(host, host.node_of_block(int(heads[0])))
    frames = alloc_pages(host, zones, heads.size * need, Migrate.UNMOVABLE, ZONE_NORMAL, Use.VMEMMAP)
    done = int(frames.size) // need
    rest = frames[done * need :]
    free_pages(host, rest[::-1] if host.profile.bulk else rest)  # a list, used from its head or from its tail
    map_frames(host, call, hs, heads[:done], frames[: done * need])
    return done


def map_frames(host: Host, call: Call, hs: HState, heads: Blocks, frames: Pfns) -> None:
    """Optimised huge pages have frames of their own again, ``frames`` page by page."""
    if heads.size == 0:
        return
    mem = host.mem
    sparse_vmemmap.own_tables(mem, vmemmap_sections(hs, heads))
    ptes = ptes_of(mem, hs, heads)
    ptes[:, mem.kept :] = make_pte(frames.reshape(heads.size, -1), PTE_RW)
    set_ptes(mem, hs, heads, ptes)
    mem.flags[heads] &= 255 - BlockFlag.OPTIMIZED
    hs.nr_optimized -= int(heads.size)
    call.vmemmap.pages_restored += int(frames.size)


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
