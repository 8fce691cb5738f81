"""Why a memory block would not go offline now: what lies in it, and what the attempt would answer.

The verdict is the attempt itself, made on a copy; the lists tell what to do about it.
"""

from typing import Any

import numpy as np

from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import SetBlockState
from hugepool.mm.commands.memory_block import block_sections
from hugepool.mm.kernel import hugetlb_vmemmap
from hugepool.mm.kernel.memory_hotplug import pageblocks
from hugepool.mm.kernel.migrate import free_huge_pages, used_huge_pages
from hugepool.mm.kernel.page_isolation import pages_of_use, unmovable_pages, word_of
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.mmzone import MOVABLE_USES, BlockFlag, Blocks, Migrate, Pfns, Use
from hugepool.mm.machine.rmap import files_of, users_of
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_PAGES
from hugepool.mm.views.page_view import USE_WORDS


def blockers(host: Host, block: int) -> dict[str, Any]:
    """What stops a memory block from going offline, and what the kernel would answer.

    Raises ENOENT when there is no such block.
    """
    try:
        sections = block_sections(host, block)
    except NotFound:
        raise NotFound("no memory block of this number on this host") from None
    blocks = pageblocks(sections)
    zones = host.mem.zones_of(blocks)
    movable = pages_of_use(host.mem, blocks, *MOVABLE_USES)
    return {
        "block": block,
        **verdict(host, block),
        "holes_pages": int(pages_of_use(host.mem, blocks, Use.HOLE).size),
        "zones": [zone.name for zone in zones],
        "unmovable": _unmovable(host, blocks),
        "movable_pages": int(movable.size),
        "movable_pids": _owners_of(host, movable),
        "hugepages": [_huge(host, hs, blocks) for hs in reversed(host.hstates.values())],
        "vmemmap_pages_available": sum(
            hugetlb_vmemmap.available_for_restore(host, nid) for nid in {zone.nid for zone in zones}
        ),
        "unreserved_hugepages": {
            hs.size: hs.free_huge_pages - hs.resv_huge_pages for hs in host.hstates.values()
        },
    }


def verdict(host: Host, block: int) -> dict[str, Any]:
    """What writing offline to the block's state would answer now."""
    try:
        refusal = apply(fork(host), SetBlockState(block, "offline")).error
    except MMError as error:
        refusal = error
    if refusal is None:
        return {"can_offline": True, "errno": None, "reason": None, "detail": None}
    return {
        "can_offline": False,
        "errno": refusal.errno,
        "reason": refusal.reason,
        "detail": refusal.detail,
    }


def _unmovable(host: Host, blocks: Blocks) -> list[dict[str, Any]]:
    """Unmovable pages by use, the most frequent first; holes are told apart."""
    pfns = unmovable_pages(host, blocks)
    in_area = host.mem.mt[pfns // PAGEBLOCK_PAGES] == Migrate.CMA
    areas, pfns = pfns[in_area], pfns[~in_area]
    uses = host.mem.uses_of(pfns)
    rows = []
    if areas.size:  # each stands for its pageblock
        pages = int(areas.size) * PAGEBLOCK_PAGES
        rows.append({"use": "cma", "pages": pages, "first_pfn": int(areas[0]), "pids": []})
    for use in (Use(n) for n in np.unique(uses).tolist() if n not in (Use.HOLE, Use.OFFLINE)):
        mine = pfns[uses == use]
        word = USE_WORDS.get(use, word_of(use))
        rows.append(
            {"use": word, "pages": int(mine.size), "first_pfn": int(mine[0]), "pids": _owners_of(host, mine)}
        )
    return sorted(rows, key=lambda row: -row["pages"])


def _owners_of(host: Host, pfns: Pfns) -> list[int]:
    """Tasks that hold some of the pages (rising)."""
    owners = []
    for pid, task in host.tasks.items():
        runs = np.array(task.runs, np.int64).reshape(-1, 2)
        if np.any(np.searchsorted(pfns, runs[:, 0]) < np.searchsorted(pfns, runs.sum(axis=1))):
            owners.append(pid)
    return owners


def _huge(host: Host, hs: HState, blocks: Blocks) -> dict[str, Any]:
    free, used = free_huge_pages(host, hs, blocks), used_huge_pages(host, hs, blocks)
    optimized = int(((host.mem.flags[free] & BlockFlag.OPTIMIZED) != 0).sum())
    heads = set(used.tolist())
    return {
        "size": hs.size,
        "free": int(free.size),
        "in_use": int(used.size),
        "optimized": optimized,
        "vmemmap_pages_needed": optimized * hs.nr_free_vmemmap_pages,
        "pids": list(users_of(host, heads)),
        "files": files_of(host, heads),
    }
