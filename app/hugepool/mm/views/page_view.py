"""Sections, memory blocks and single pages as plain data for reading: the detailed half of ``view``."""

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.memory_hotplug import valid_zones
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap, Migrate, SectionState, Use
from hugepool.mm.machine.rmap import files_of, users_of
from hugepool.mm.machine.sparse_vmemmap import PAGE_RW
from hugepool.mm.machine.state import Host, Task
from hugepool.mm.machine.units import (
    BLOCKS_PER_1G,
    BLOCKS_PER_SECTION,
    MAX_BUDDY_ORDER,
    ORDER_1G,
    ORDER_2M,
    PAGEBLOCK_PAGES,
    SECTION_PAGES,
    size_name,
)
from hugepool.mm.views.host_view import block_states, sections_per_block

Numbers = npt.NDArray[np.int64]

# The API's word for each use, where it is not the enum's own name in small letters with "-" for "_".
USE_WORDS = {
    Use.BOOT_VMEMMAP: "vmemmap",
    Use.EARLY_VMEMMAP: "vmemmap",
    Use.VMEMMAP_COMPOUND: "vmemmap",
    Use.OWN_VMEMMAP: "vmemmap",
    Use.BOOT_PAGE_TABLE: "page-table",
}
VMEMMAP_ORIGIN = {
    Use.BOOT_VMEMMAP: "boot",
    Use.EARLY_VMEMMAP: "boot",
    Use.VMEMMAP: "buddy",
    Use.VMEMMAP_COMPOUND: "hot-added",
    Use.OWN_VMEMMAP: "own-block",
}
STATE_WORDS = {SectionState.ONLINE: "online", SectionState.OFFLINE: "offline"}
OPTIMIZED_GIGANTIC = BlockFlag.HEAD | BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC


# -- sections of the vmemmap -------------------------------------------------------------------------------


def sections(host: Host, after: int, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` rows of sections that have a vmemmap, numbered above ``after``."""
    first = min(max(after + 1, 0), host.mem.nr_sections)
    numbers = first + np.flatnonzero(host.mem.vmemmap_pfn[first:] >= 0)[:limit]
    return _section_rows(host.mem, numbers)


def section(host: Host, number: int) -> dict[str, Any]:
    """One section with its page table as runs.  Raises ENOENT when it has no vmemmap."""
    mem = host.mem
    if not 0 <= number < mem.nr_sections or mem.vmemmap_pfn[number] < 0:
        raise NotFound("no section of this number has a vmemmap on this host", section=_short(number))
    return {
        **_section_rows(mem, np.array([number], np.int64))[0],
        "node": int(mem.section_nid[number]),
        "block": number // sections_per_block(host),
        "page_table_pfn": int(mem.pte_pfn[number]) if mem.pte_slot[number] else None,
        "runs": [asdict(run) for run in sparse_vmemmap.runs(mem, number)],
    }


def _section_rows(mem: MemoryMap, numbers: Numbers) -> list[dict[str, Any]]:
    columns = (numbers, mem.pte_slot[numbers] != 0, _optimized(mem, numbers), _pages_freed(mem, numbers))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        {
            "section": number,
            "mapping": "pte" if split else "pmd",
            "optimized_hugepages": optimized,
            "pages_freed": freed,
        }
        for number, split, optimized, freed in rows
    ]


def _optimized(mem: MemoryMap, numbers: Numbers) -> Numbers:
    """Optimised huge pages per section; a gigantic one counts in each of the eight sections it covers."""
    flags = mem.flags[numbers[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)]
    small = (flags & (BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC)) == BlockFlag.OPTIMIZED
    heads = mem.flags[numbers * BLOCKS_PER_SECTION // BLOCKS_PER_1G * BLOCKS_PER_1G]
    gigantic = (heads & OPTIMIZED_GIGANTIC) == OPTIMIZED_GIGANTIC
    counts: Numbers = small.sum(axis=1) + gigantic
    return counts


def _pages_freed(mem: MemoryMap, numbers: Numbers) -> Numbers:
    """Entries that share a frame with another, read from the page tables: the shared ones are read-only."""
    freed = np.zeros(numbers.size, np.int64)
    split = np.flatnonzero(mem.pte_slot[numbers])
    tables = sparse_vmemmap.tables(mem, numbers[split])
    freed[split] = ((tables & PAGE_RW) == 0).sum(axis=1)
    return freed


# -- memory blocks -----------------------------------------------------------------------------------------


def blocks(host: Host, after: int, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` memory blocks numbered above ``after``."""
    states = block_states(host)
    first = min(max(after + 1, 0), states.size)
    numbers = first + np.flatnonzero(states[first:])[:limit]
    return [_block(host, number, int(states[number])) for number in numbers.tolist()]


def block(host: Host, number: int) -> dict[str, Any]:
    """One memory block.  Raises ENOENT."""
    states = block_states(host)
    if not 0 <= number < states.size or not states[number]:
        raise NotFound("no memory block of this number on this host", block=_short(number))
    return _block(host, number, int(states[number]))


def _block(host: Host, number: int, state: int) -> dict[str, Any]:
    mem, per_block = host.mem, sections_per_block(host)
    first = number * per_block
    part = slice(first * BLOCKS_PER_SECTION, min(first + per_block, mem.nr_sections) * BLOCKS_PER_SECTION)
    nids = mem.section_nid[first : first + per_block]
    zone_ids = np.unique(mem.zone[part])
    zones = [mem.zones[i - 1] for i in zone_ids.tolist() if i]
    online = state == SectionState.ONLINE
    zone = zones[0].name if online and len(zones) == 1 and zone_ids[0] else None
    return {
        "block": number,
        "phys_index": f"{number:08x}",
        "state": STATE_WORDS[SectionState(state)],
        "node": int(nids[nids >= 0][0]) if (nids >= 0).any() else None,
        "zone": zone,
        "valid_zones": (zone or "none") if online else _valid_zones(host, number, int(nids.max())),
        "removable": True,
        "start_pfn": first * SECTION_PAGES,
        "nr_pages": host.memory_block_pages,
        "free_pages": int(mem.nfree[part].sum(dtype=np.int64)),
        "hugepages": _hugepages_in(mem, part),
    }


def _valid_zones(host: Host, number: int, nid: int) -> str:
    """Zones an offline block may go to, the default first."""
    start, end = number * host.memory_block_pages, (number + 1) * host.memory_block_pages
    return " ".join(valid_zones(host, max(nid, 0), start, end))


def _hugepages_in(mem: MemoryMap, part: slice) -> dict[str, int]:
    """Huge pages that lie in pageblocks, wholly or in part."""
    huge = np.flatnonzero(mem.use[part] == Use.HUGETLB)
    gigantic = (mem.flags[part][huge] & BlockFlag.GIGANTIC) != 0
    groups = np.unique((huge[gigantic] + part.start) // BLOCKS_PER_1G)
    return {size_name(ORDER_2M): int((~gigantic).sum()), size_name(ORDER_1G): int(groups.size)}


# -- pages -------------------------------------------------------------------------------------------------


def page(host: Host, pfn: int) -> dict[str, Any]:
    """One page: where it is, what uses it, and where its ``struct page`` lies.

    Raises ENOENT when there is no memory at the pfn.
    """
    mem = host.mem
    inside = 0 <= pfn < mem.nr_sections * SECTION_PAGES
    if not inside or mem.section_state[pfn // SECTION_PAGES] == SectionState.ABSENT:
        raise NotFound("no memory at this pfn on this host", pfn=_short(pfn))
    pageblock, number = pfn // PAGEBLOCK_PAGES, pfn // SECTION_PAGES
    zone_id, use = int(mem.zone[pageblock]), Use(mem.page_use(pfn))
    return {
        "pfn": pfn,
        "node": int(mem.section_nid[number]),
        "zone": mem.zones[zone_id - 1].name if zone_id else None,
        "section": number,
        "block": number // sections_per_block(host),
        "pageblock_migratetype": Migrate(int(mem.mt[pageblock])).name.capitalize(),
        "use": USE_WORDS.get(use, use.name.lower().replace("_", "-")),
        **_details(host, pfn, use),
        "struct_page": _struct_page(mem, pfn),
    }


def _struct_page(mem: MemoryMap, pfn: int) -> dict[str, Any] | None:
    """The walk of the page table; the address in hex, as it is above what a JSON number surely holds."""
    found = sparse_vmemmap.walk(mem, pfn)
    return {**asdict(found), "virtual_address": f"{found.virtual_address:#x}"} if found else None


def _details(host: Host, pfn: int, use: Use) -> dict[str, Any]:
    """What else is known of a page, by its use."""
    if use == Use.BUDDY:
        return {"buddy": _buddy(host.mem, pfn)}
    if use == Use.HUGETLB:
        return {"hugepage": _hugepage(host, pfn)}
    if use in VMEMMAP_ORIGIN:
        return {"origin": VMEMMAP_ORIGIN[use]}
    if use in {Use.PAGE_TABLE, Use.BOOT_PAGE_TABLE}:
        owner = np.flatnonzero(host.mem.pte_pfn == pfn)
        return {"page_table_of_section": int(owner[0]) if owner.size else None}
    if use in {Use.ANON, Use.KERNEL}:
        return {"pid": next((t.pid for t in host.tasks.values() if _has_page(t, pfn)), None)}
    return {}


def _has_page(task: Task, pfn: int) -> bool:
    return any(first <= pfn < first + count for first, count in task.runs)


def _buddy(mem: MemoryMap, pfn: int) -> dict[str, int]:
    """The free block that a free page belongs to: the largest aligned one, as free buddies always merge."""
    order = 0
    zone_id = mem.zone[pfn // PAGEBLOCK_PAGES]
    while order < MAX_BUDDY_ORDER and _all_free(mem, pfn, order + 1, int(zone_id)):
        order += 1
    return {"order": order, "head_pfn": pfn >> order << order}


def _all_free(mem: MemoryMap, pfn: int, order: int, zone_id: int) -> bool:
    start = pfn >> order << order
    first, last = start // PAGEBLOCK_PAGES, (start + (1 << order) - 1) // PAGEBLOCK_PAGES
    if last >= mem.nr_blocks or (mem.zone[first : last + 1] != zone_id).any():
        return False
    uses = mem.page_uses(first, last - first + 1).ravel()
    offset = start - first * PAGEBLOCK_PAGES
    return bool((uses[offset : offset + (1 << order)] == Use.BUDDY).all())


def _hugepage(host: Host, pfn: int) -> dict[str, Any]:
    """The huge page around a pfn."""
    flags = host.mem.flags
    head = pfn // PAGEBLOCK_PAGES
    order = ORDER_1G if flags[head] & BlockFlag.GIGANTIC else ORDER_2M
    if order == ORDER_1G:
        head = head // BLOCKS_PER_1G * BLOCKS_PER_1G
    word = int(flags[head])
    return {
        "size": size_name(order),
        "head_pfn": head * PAGEBLOCK_PAGES,
        "free": bool(word & BlockFlag.FREE),
        "optimized": bool(word & BlockFlag.OPTIMIZED),
        "queued": bool(word & BlockFlag.QUEUED),
        "pid": next(users_of(host, {head}), None),
        "file": next(iter(files_of(host, {head})), None),
        "cgroup": _payer(host, head),
    }


def _payer(host: Host, head: int) -> str | None:
    """The cgroup that a huge page is charged to; None: the root, or nobody."""
    charge = host.page_charges.get(head)
    return host.hugetlb_cgroups[charge.pages].path if charge is not None and charge.pages else None


def _short(number: int) -> int | str:
    """A number as it may stand in an answer: digits of a stranger's joke are not given back in full."""
    return number if abs(number) < 1 << 64 else "out of range"
