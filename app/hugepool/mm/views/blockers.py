"""Why a memory block would not go offline now: what lies in it, and what the attempt would answer.

The verdict is the attempt itself, made on a copy; the lists say what to do about it.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What writing offline to a memory block's state would answer now.

    Attributes:
        errno: of the refusal; null: there would be none.
        reason: of the refusal, in one word of the documented list.
        detail: of the refusal, in a sentence.
    """

    can_offline: bool
    errno: str | None
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Unmovable:
    """Pages of one use that cannot be moved.

    Attributes:
        use: `cma` for a pageblock of an area, else as a page shows it.
        first_pfn: the first of them.
        pids: the tasks that have some of them.
    """

    use: str
    pages: int
    first_pfn: int
    pids: list[int]


@dataclass(frozen=True, slots=True)
class HugePagesInBlock:
    """Huge pages of a size in a block.

    Attributes:
        size: as sysfs writes it.
        optimized: free ones whose vmemmap has to be restored before they can be dissolved.
        vmemmap_pages_needed: what that takes.
        pids: the tasks that have mapped those in use.
        files: the files that have those in use.
    """

    size: str
    free: int
    in_use: int
    optimized: int
    vmemmap_pages_needed: int
    pids: list[int]
    files: list[str]


@dataclass(frozen=True, slots=True)
class Blockers(Verdict):
    """What would come of taking a memory block offline now, and all that stands in its way.

    Attributes:
        zones: those that it lies in.
        unmovable: by use, the most frequent first; holes are counted apart.
        movable_pages: single pages that have to move.
        movable_pids: the tasks that have some of them.
        hugepages: by size, the larger first.
        vmemmap_pages_available: what restores may take on the nodes of the block.
        unreserved_hugepages: by size, free huge pages of the host that are promised to nobody.
    """

    block: int
    holes_pages: int
    zones: list[str]
    unmovable: list[Unmovable]
    movable_pages: int
    movable_pids: list[int]
    hugepages: list[HugePagesInBlock]
    vmemmap_pages_available: int
    unreserved_hugepages: dict[str, int]


def blockers(host: Host, block: int) -> Blockers:
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
    found = verdict(host, block)
    return Blockers(
        can_offline=found.can_offline,
        errno=found.errno,
        reason=found.reason,
        detail=found.detail,
        block=block,
        holes_pages=int(pages_of_use(host.mem, blocks, Use.HOLE).size),
        zones=[zone.name for zone in zones],
        unmovable=_unmovable(host, blocks),
        movable_pages=int(movable.size),
        movable_pids=_owners_of(host, movable),
        hugepages=[_huge(host, hs, blocks) for hs in reversed(host.hstates.values())],
        vmemmap_pages_available=sum(
            hugetlb_vmemmap.available_for_restore(host, nid) for nid in {zone.nid for zone in zones}
        ),
        unreserved_hugepages={
            hs.size: hs.free_huge_pages - hs.resv_huge_pages for hs in host.hstates.values()
        },
    )


def verdict(host: Host, block: int) -> Verdict:
    """What writing offline to the block's state would answer now."""
    try:
        refusal = apply(fork(host), SetBlockState(block, "offline")).error
    except MMError as error:
        refusal = error
    if refusal is None:
        return Verdict(can_offline=True, errno=None, reason=None, detail=None)
    return Verdict(can_offline=False, errno=refusal.errno, reason=refusal.reason, detail=refusal.detail)


def _unmovable(host: Host, blocks: Blocks) -> list[Unmovable]:
    """Unmovable pages by use, the most frequent first; holes are left out."""
    pfns = np.sort(
        np.concatenate((unmovable_pages(host, blocks), pages_of_use(host.mem, blocks, Use.PINNED)))
    )
    in_area = host.mem.mt[pfns // PAGEBLOCK_PAGES] == Migrate.CMA
    areas, pfns = pfns[in_area], pfns[~in_area]
    uses = host.mem.uses_of(pfns)
    rows = []
    if areas.size:  # each stands for its pageblock
        rows.append(Unmovable("cma", int(areas.size) * PAGEBLOCK_PAGES, int(areas[0]), []))
    for use in (Use(n) for n in np.unique(uses).tolist() if n not in (Use.HOLE, Use.OFFLINE)):
        mine = pfns[uses == use]
        word = USE_WORDS.get(use, word_of(use))
        rows.append(Unmovable(word, int(mine.size), int(mine[0]), _owners_of(host, mine)))
    return sorted(rows, key=lambda row: -row.pages)


def _owners_of(host: Host, pfns: Pfns) -> list[int]:
    """Tasks that hold some of the pages (rising)."""
    owners = []
    for pid, task in host.tasks.items():
        runs = np.array(task.runs, np.int64).reshape(-1, 2)
        if np.any(np.searchsorted(pfns, runs[:, 0]) < np.searchsorted(pfns, runs.sum(axis=1))):
            owners.append(pid)
    return owners


def _huge(host: Host, hs: HState, blocks: Blocks) -> HugePagesInBlock:
    free, used = free_huge_pages(host, hs, blocks), used_huge_pages(host, hs, blocks)
    optimized = int(((host.mem.flags[free] & BlockFlag.OPTIMIZED) != 0).sum())
    heads = set(used.tolist())
    return HugePagesInBlock(
        size=hs.size,
        free=int(free.size),
        in_use=int(used.size),
        optimized=optimized,
        vmemmap_pages_needed=optimized * hs.nr_free_vmemmap_pages,
        pids=list(users_of(host, heads)),
        files=files_of(host, heads),
    )
