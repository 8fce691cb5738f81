"""Freeing the vmemmap of fresh huge pages: what is asked for, in which order, and what a refusal costs.

Source: mm/hugetlb_vmemmap.c free_huge_page_vmemmap() (5.14), hugetlb_vmemmap_optimize_folio(),
hugetlb_vmemmap_optimize_folios() (6.12).
"""

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.hugetlb_vmemmap import (
    leading,
    nids_of,
    release_frames,
    remap_free,
    restore_zones,
    sections_in_turn,
    vmemmap_sections,
)
from hugepool.mm.kernel.page_alloc import alloc_pages, zonelist
from hugepool.mm.kernel.pcp import free_pages
from hugepool.mm.kernel.sparse import on_own_memory
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import (
    NO_PFNS,
    ZONE_NORMAL,
    BlockFlag,
    Blocks,
    Mask,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
)
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import BLOCKS_PER_SECTION

Sections = npt.NDArray[np.int64]
FAULTS = (FaultPoint.VMEMMAP_PAGE_TABLE, FaultPoint.VMEMMAP_HEAD_FRAME)


def optimize(host: Host, call: Call, hs: HState, heads: Blocks, *, batched: bool = False) -> None:
    """Free the vmemmap of fresh huge pages, in the order given; a page that cannot be is left as it is.

    A PMD is split on demand; without a page-table page the huge page stays unoptimised, and no caller hears of it.
    ``batched``: the pages of one growth, which later kernels optimise together (6.8+).
    """
    if not host.optimize_enabled or hs.nr_free_vmemmap_pages == 0:
        return
    heads = heads[host.mem.flags[heads] & BlockFlag.OPTIMIZED == 0]
    heads = heads[~on_own_memory(host.mem, heads // BLOCKS_PER_SECTION)]
    if batched and host.profile.bulk:
        _optimize_together(host, call, hs, heads)
    elif heads.size == 1 or any(_armed(host, point) for point in FAULTS):
        for i in range(heads.size):
            release_frames(host, call, _optimize_one(host, call, hs, heads[i : i + 1]))
    else:
        _optimize_in_turn(host, call, hs, heads)


def _optimize_in_turn(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """One page after the other, each freeing its frames before the next; many at once where that is the same."""
    while heads.size:
        _split(host, call, first_touched(hs, heads))
        split = _are_split(host.mem, hs, heads)
        if split[0]:
            count = leading(split)
            fresh = _head_frames(host, call, heads[:count])
            release_frames(host, call, remap_free(host, call, hs, heads[:count], fresh))
        else:  # no page table for these: they stay as they are
            count = leading(~split)
        heads = heads[count:]


def _optimize_one(host: Host, call: Call, hs: HState, head: Blocks) -> Pfns:
    """One huge page: a frame for its head where the kernel wants one, and a page table for each PMD; the frames freed.

    None at all means: no page table, and it stays as it is; PMDs that were split stay split.
    """
    fresh = _head_frames(host, call, head)
    for section in vmemmap_sections(hs, head).tolist():
        _split(host, call, np.array([section], np.int64))
        if host.mem.pte_slot[section] == 0:
            if fresh is not None:
                free_pages(host, fresh[fresh >= 0])
            return NO_PFNS
    return remap_free(host, call, hs, head, fresh)


def _optimize_together(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """All PMDs are split first, up to the first refusal; then page after page, and what they free is freed at the end.

    A page that gets no page table is tried once more, after what is freed so far has been given back.
    Source: mm/hugetlb_vmemmap.c hugetlb_vmemmap_optimize_folios() (6.12).
    """
    freed: list[Pfns] = []
    if heads.size:
        _split(host, call, first_touched(hs, heads))
    while heads.size:
        split = _are_split(host.mem, hs, heads)
        count = leading(split)
        if count:
            freed.append(remap_free(host, call, hs, heads[:count], _head_frames(host, call, heads[:count])))
            heads = heads[count:]
            continue
        frames = _optimize_one(host, call, hs, heads[:1])
        if frames.size == 0 and freed:
            release_frames(host, call, np.concatenate(freed))
            freed = []
            frames = _optimize_one(host, call, hs, heads[:1])
        if frames.size:
            freed.append(frames)
        hopeless = frames.size == 0 and not _armed(host, FaultPoint.VMEMMAP_PAGE_TABLE)
        heads = heads[leading(~split) if hopeless else 1 :]
    if freed:
        release_frames(host, call, np.concatenate(freed))


# -- page tables -----------------------------------------------------------------------------------------


def first_touched(hs: HState, heads: Blocks) -> Sections:
    """Sections whose vmemmap describes the huge pages, in the order in which the pages come to them."""
    turn = sections_in_turn(hs, heads)
    lowest = int(turn.min())
    where = np.full(int(turn.max()) - lowest + 1, -1, np.int64)
    where[turn[::-1] - lowest] = np.arange(turn.size)[::-1]  # of equal indexes the last one written stays
    sections = np.flatnonzero(where >= 0)
    ordered: Sections = sections[np.argsort(where[sections])] + lowest
    return ordered


def _are_split(mem: MemoryMap, hs: HState, heads: Blocks) -> Mask:
    """Huge pages all of whose vmemmap PMDs are split."""
    turn = sections_in_turn(hs, heads).reshape(heads.size, -1)
    split: Mask = (mem.pte_slot[turn] != 0).all(axis=1)
    return split


def _split(host: Host, call: Call, sections: Sections) -> None:
    """Split the PMDs of sections in order, up to the first that gets no page table; those split stay split."""
    fresh = sparse_vmemmap.unsplit_sections(host.mem, sections)
    fresh = fresh[: leading(_granted(host, call, FaultPoint.VMEMMAP_PAGE_TABLE, fresh.size, stop=True))]
    if fresh.size == 0:
        return
    zones = zonelist(host.nodes, host.running_node(), ZONE_NORMAL)
    tables = alloc_pages(host, zones, fresh.size, Migrate.UNMOVABLE, ZONE_NORMAL, Use.PAGE_TABLE)
    fresh = fresh[: tables.size]
    if fresh.size == 0:
        return
    sparse_vmemmap.split_vmemmap_huge_pmd(host.mem, fresh, tables)
    call.vmemmap.page_table_pages += int(fresh.size)
    call.emit(Event.VMEMMAP_SPLIT, sections=_summary(fresh))


def _summary(sections: Sections) -> dict[str, int]:
    return {"count": int(sections.size), "first": int(sections.min()), "last": int(sections.max())}


# -- frames of heads --------------------------------------------------------------------------------------


def _head_frames(host: Host, call: Call, heads: Blocks) -> Pfns | None:
    """New frames for the kept pages, near the huge pages if possible; -1 where memory is short; None: nothing is asked.

    Source: mm/hugetlb_vmemmap.c vmemmap_remap_free() (6.12): it goes on with the old frame.
    """
    if not host.profile.fresh_head_frame:
        return None
    frames = np.full(heads.size, -1, np.int64)
    granted = _granted(host, call, FaultPoint.VMEMMAP_HEAD_FRAME, heads.size)
    nids = nids_of(host, heads)
    for nid in np.unique(nids):
        mine = np.flatnonzero((nids == nid) & granted)
        zones = restore_zones(host, int(nid))
        got = alloc_pages(host, zones, mine.size, Migrate.UNMOVABLE, ZONE_NORMAL, Use.VMEMMAP)
        frames[mine[: got.size]] = got
    return frames


# -- fault injection --------------------------------------------------------------------------------------


def _armed(host: Host, point: FaultPoint) -> bool:
    fault = host.faults.get(point)
    return fault is not None and fault.armed


def _granted(host: Host, call: Call, point: FaultPoint, requests: int, *, stop: bool = False) -> Mask:
    """Which of some requests in a row fault injection lets pass; ``stop``: none is made after one that fails."""
    granted = np.ones(requests, np.bool_)
    fault = host.faults.get(point)
    if fault is None:
        return granted
    for i in range(requests):
        if fault.should_fail():
            granted[i] = False
            call.injected = True
            if stop:
                break
    return granted
