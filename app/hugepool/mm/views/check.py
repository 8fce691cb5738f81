"""The laws: everything recounted from the page state and compared with every counter.

Callable at any moment; served as ``/audit``.  A known defect of the booted kernel is reported as such, not as a
broken law.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hugepool.mm.kernel.buddy import free_area
from hugepool.mm.kernel.pcp_sizes import order_of_list
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.mmzone import (
    IS_MANAGED,
    NO_PFNS,
    BlockFlag,
    Blocks,
    Mask,
    Migrate,
    Pfns,
    SectionState,
    Use,
    Zone,
)
from hugepool.mm.machine.sparse_vmemmap import PAGE_RW
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    MAX_BUDDY_ORDER,
    PAGEBLOCK_PAGES,
    PTRS_PER_PTE,
    SECTIONS_PER_1G,
    VMEMMAP_PER_BLOCK,
    pages_by_order,
)
from hugepool.mm.views import check_hugetlb

PAGE_TABLES = (Use.PAGE_TABLE, Use.BOOT_PAGE_TABLE)
VMEMMAP_USES = (Use.BOOT_VMEMMAP, Use.EARLY_VMEMMAP, Use.VMEMMAP, Use.VMEMMAP_COMPOUND, Use.OWN_VMEMMAP)


@dataclass(frozen=True, slots=True)
class Law:
    """One law, held against the host.

    Attributes:
        findings: what is wrong where; empty when all is right.
        known_defect: the kernel's own defect behind the findings, with which the law holds all the same.
    """

    law: str
    ok: bool
    findings: tuple[str, ...] = ()
    known_defect: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """All laws.

    Attributes:
        ok: every law holds.
    """

    ok: bool
    laws: list[Law]


def check(host: Host) -> list[Law]:
    """Recount the host and hold every law."""
    return [_law(name, rule(host)) for name, rule in LAWS.items()] + [_counters_law(host)]


def _law(name: str, findings: list[str]) -> Law:
    return Law(name, not findings, tuple(findings[:20]))


def _mixed(host: Host, zone: Zone) -> Blocks:
    span = host.mem.blocks_of(zone)
    mine = (host.mem.zone[span] == zone.id) & (host.mem.use[span] == Use.MIXED)
    blocks: Blocks = np.flatnonzero(mine) + span.start
    return blocks


def _uses_by_zone(host: Host, zone: Zone) -> Pfns:
    """Pages per use in one zone, shape (256,)."""
    mem = host.mem
    span = mem.blocks_of(zone)
    mine = mem.zone[span] == zone.id
    counts: Pfns = np.bincount(mem.use[span][mine], minlength=256) * PAGEBLOCK_PAGES
    counts[Use.MIXED] = 0
    mixed = _mixed(host, zone)
    counts += np.bincount(mem.detail[mem.slot[mixed]].ravel(), minlength=256)
    return counts


def _zone_counts(host: Host) -> list[str]:
    out = []
    for zone in host.zones:
        uses = _uses_by_zone(host, zone)
        found = {
            "free": (zone.nr_free, int(uses[Use.BUDDY])),
            "pcp": (zone.nr_pcp, int(uses[Use.PCP])),
            "managed": (zone.managed, int((uses * IS_MANAGED).sum())),
            "present": (zone.present, int(uses.sum() - uses[Use.HOLE])),
        }
        for word, (counter, recount) in found.items():
            if counter != recount:
                out.append(f"node {zone.nid} zone {zone.name}: {word} is {counter}, recounted {recount}")
    return out


def _cma_counts(host: Host) -> list[str]:
    """Free pages in CMA pageblocks are counted."""
    mem, out = host.mem, []
    for zone in host.zones:
        span = mem.blocks_of(zone)
        mine = (mem.zone[span] == zone.id) & (mem.mt[span] == Migrate.CMA)
        found = int(mem.nfree[span][mine].sum())
        if zone.nr_free_cma != found:
            out.append(
                f"node {zone.nid} zone {zone.name}: {zone.nr_free_cma} free CMA pages, recounted {found}"
            )
    return out


def _areas_apart(host: Host) -> list[str]:
    """Areas of CMA have no page in common."""
    areas = sorted(host.cma_areas, key=lambda area: area.base_pfn)
    return [
        f"the areas {low.name} and {high.name} overlap at page {high.base_pfn}"
        for low, high in pairwise(areas)
        if low.base_pfn + low.nr_pages > high.base_pfn
    ]


def _block_counts(host: Host) -> list[str]:
    """nfree of every pageblock equals its free pages; a mixed pageblock has more than one use."""
    mem = host.mem
    wrong = np.flatnonzero(
        (mem.use != Use.MIXED) & (mem.nfree != np.where(mem.use == Use.BUDDY, PAGEBLOCK_PAGES, 0))
    )
    mixed = np.flatnonzero(mem.use == Use.MIXED)
    rows = mem.detail[mem.slot[mixed]]
    bad = mixed[(rows == Use.BUDDY).sum(axis=1) != mem.nfree[mixed]]
    same = mixed[(rows == rows[:, :1]).all(axis=1)]
    slots = mem.slot[mixed]
    out = [f"pageblock {b}: nfree {mem.nfree[b]}" for b in np.concatenate((wrong, bad))[:5].tolist()]
    out += [f"pageblock {b} is mixed but uniform" for b in same[:5].tolist()]
    if np.unique(slots).size != slots.size or (slots == 0).any():
        out.append("two mixed pageblocks share a row")
    return out


def _buddy(host: Host) -> list[str]:
    out = []
    for zone in host.zones:
        pages = pages_by_order(free_area(host.mem, zone))
        if pages != zone.nr_free:
            out.append(
                f"node {zone.nid} zone {zone.name}: orders hold {pages} pages, NR_FREE is {zone.nr_free}"
            )
    if MAX_BUDDY_ORDER != 10:
        out.append("the largest order is not 10")
    return out


def _heads(host: Host, hs: HState, flags: int = 0) -> Blocks:
    want = BlockFlag.HEAD | (BlockFlag.GIGANTIC if hs.gigantic else 0) | flags
    mask = BlockFlag.HEAD | BlockFlag.GIGANTIC | flags
    return np.flatnonzero((host.mem.flags & mask) == want)


def _pools(host: Host) -> list[str]:
    out = []
    of_zone = np.array([-1] + [zone.nid for zone in host.zones])
    queued = {q.block for q in host.deferred}
    for hs in host.hstates.values():
        heads = _heads(host, hs)
        counted = np.array([h for h in heads.tolist() if h not in queued], np.int64)
        free = _heads(host, hs, BlockFlag.FREE)
        for nid in range(len(host.nodes)):
            nr = int((of_zone[host.mem.zone[counted]] == nid).sum())
            nr_free = int((of_zone[host.mem.zone[free]] == nid).sum())
            if hs.nr_node[nid] != nr or hs.free_node[nid] != nr_free:
                out.append(
                    f"{hs.size} node {nid}: nr/free {hs.nr_node[nid]}/{hs.free_node[nid]}, found {nr}/{nr_free}"
                )
            listed = np.sort(hs.free_lists[nid].items())
            if not np.array_equal(listed, np.sort(free[of_zone[host.mem.zone[free]] == nid])):
                out.append(f"{hs.size} node {nid}: the free list and the pages marked free differ")
        if _heads(host, hs, BlockFlag.OPTIMIZED).size != hs.nr_optimized:
            out.append(f"{hs.size}: nr_optimized is {hs.nr_optimized}")
        blocks = (heads[:, None] + np.arange(hs.blocks)).ravel()
        if not (host.mem.use[blocks] == Use.HUGETLB).all():
            out.append(f"{hs.size}: a huge page is not used as one")
    return out


def _vmemmap(host: Host) -> list[str]:
    """Online sections have a vmemmap in use; optimised tails share one read-only frame, all else is its own."""
    mem = host.mem
    out = []
    there = np.flatnonzero(mem.section_state != SectionState.ABSENT)
    online = there[(mem.section_state[there] == SectionState.ONLINE) | (mem.vmemmap_pfn[there] >= 0)]
    missing = online[mem.vmemmap_pfn[online] < 0]
    out += [f"section {s} has no vmemmap" for s in missing[:5].tolist()]
    split = online[mem.pte_slot[online] != 0]
    words = sparse_vmemmap.tables(mem, split)
    frames = words >> 12
    shared = _shared_entries(host, split)
    if (words[shared] & PAGE_RW).any() or not (words[~shared] & PAGE_RW).all():
        out.append("writable bits do not follow the optimised pages")
    own = np.sort(frames[~shared])
    if own.size and (own[1:] == own[:-1]).any():
        out.append("two vmemmap entries own the same frame")
    whole = online[(mem.pte_slot[online] == 0) & (mem.vmemmap_pfn[online] >= 0)]
    expected = own.size + whole.size * PTRS_PER_PTE
    total = sum(int(_uses_by_zone(host, zone)[list(VMEMMAP_USES)].sum()) for zone in host.zones)
    total += (
        int(((mem.use == Use.OWN_VMEMMAP) & (mem.zone == 0)).sum()) * PAGEBLOCK_PAGES
    )  # of offline blocks
    if total != expected:
        out.append(f"{total} frames in use as vmemmap, {expected} mapped")
    return out + _frame_uses(host, own, whole)


def _frame_uses(host: Host, own: Pfns, whole: Pfns) -> list[str]:
    mem = host.mem
    good = np.zeros(256, np.bool_)
    good[list(VMEMMAP_USES)] = True
    bad = own[~good[mem.uses_of(own)]]
    pmd = mem.vmemmap_pfn[whole] // PAGEBLOCK_PAGES
    bad_whole = whole[~good[mem.use[pmd]]]
    return [f"frame {p} is mapped as vmemmap but used otherwise" for p in bad[:5].tolist()] + [
        f"the vmemmap of section {s} is used otherwise" for s in bad_whole[:5].tolist()
    ]


def _shared_entries(host: Host, split: Pfns) -> Mask:
    """Which entries of split sections belong to an optimised page's shared tail, shape (n, 512)."""
    kept = host.profile.reserved_vmemmap_pages
    flags = host.mem.flags.reshape(-1, BLOCKS_PER_SECTION)
    shared = np.zeros((host.mem.nr_sections, BLOCKS_PER_SECTION, VMEMMAP_PER_BLOCK), np.bool_)
    small = (flags & (BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC)) == BlockFlag.OPTIMIZED
    shared[:, :, kept:] = small[:, :, None]
    for head in _heads(host, host.hstates[18], BlockFlag.OPTIMIZED).tolist() if 18 in host.hstates else []:
        section = head // BLOCKS_PER_SECTION
        shared[section : section + SECTIONS_PER_1G] = True
        shared[section, 0, :kept] = False
    of_split: Mask = shared.reshape(-1, PTRS_PER_PTE)[split]
    return of_split


def _page_tables(host: Host) -> list[str]:
    mem = host.mem
    split = np.flatnonzero(mem.pte_slot)
    tables = sum(int(_uses_by_zone(host, zone)[list(PAGE_TABLES)].sum()) for zone in host.zones)
    out = []
    if tables != split.size:
        out.append(f"{tables} page-table frames, {split.size} split sections")
    wrong = [s for s in split.tolist() if mem.page_use(int(mem.pte_pfn[s])) not in PAGE_TABLES]
    out += [f"section {s}: its page table lies in a frame used otherwise" for s in wrong[:5]]
    return out


def _tasks_own_pages(host: Host) -> list[str]:
    owned = {Use.ANON: 0, Use.KERNEL: 0}
    for zone in host.zones:
        uses = _uses_by_zone(host, zone)
        for use in owned:
            owned[use] += int(uses[use])
    held = sum(n for t in host.tasks.values() for _, n in t.runs)
    return (
        [] if held == sum(owned.values()) else [f"tasks hold {held} pages, {sum(owned.values())} are in use"]
    )


def _deferred(host: Host) -> list[str]:
    flagged = set(np.flatnonzero(host.mem.flags & BlockFlag.QUEUED).tolist())
    queued = [q.block for q in host.deferred]
    return (
        [] if flagged == set(queued) and len(queued) == len(flagged) else ["the queue and its flags differ"]
    )


def _lists_of_cpus(host: Host) -> list[str]:
    """What lies on the lists of CPUs is used as such, once, and counted."""
    broken = []
    for zone in host.zones:
        listed = 0
        for cpu, pcp in zone.pcp.items():
            sizes = {number: held.size << order_of_list(number) for number, held in pcp.lists.items()}
            listed += pcp.count
            if sum(sizes.values()) != pcp.count:
                broken.append(
                    f"node {zone.nid} {zone.name}: CPU {cpu} counts {pcp.count} pages, its lists hold {sizes}"
                )
            every = [held.items() for held in pcp.lists.values()]
            pfns = np.concatenate(every) if every else NO_PFNS
            if (host.mem.uses_of(pfns) != Use.PCP).any() or np.unique(pfns).size != pfns.size:
                broken.append(
                    f"node {zone.nid} {zone.name}: CPU {cpu} lists pages that are not free on a list"
                )
        if listed != zone.nr_pcp:
            broken.append(f"node {zone.nid} {zone.name}: {zone.nr_pcp} pages on lists, CPUs count {listed}")
    return broken


def _lists(host: Host) -> list[str]:
    """What was freed or put back since the boot is on its zone's list, once."""
    mem, broken = host.mem, []
    for zone in host.zones:
        span = mem.blocks_of(zone)
        placed = np.flatnonzero(mem.free_in(zone, span) & (mem.order.stamp[span] != 0)) + span.start
        listed = mem.order.listed(zone.index)
        listed = listed[mem.free_in(zone, listed)]
        if not np.array_equal(np.sort(listed), placed):
            broken.append(
                f"node {zone.nid} {zone.name}: {placed.size} pageblocks have a place, {listed.size} are listed"
            )
    return broken


def _counters_law(host: Host) -> Law:
    """free <= nr, resv <= free, sums over nodes, max = nr - surplus: but for the defects of the profile."""
    broken, defects = [], []
    for hs in host.hstates.values():
        if hs.resv_drift:
            defects.append(f"{hs.size}: {hs.resv_drift:+} reservations that nobody holds")
        if hs.surplus_huge_pages > hs.nr_huge_pages:
            defects.append(f"{hs.size}: surplus {hs.surplus_huge_pages} > nr {hs.nr_huge_pages}")
        defects += [
            f"{hs.size} node {n}: surplus {hs.surplus_node[n]} > nr {hs.nr_node[n]}"
            for n in range(hs.nr_nodes)
            if hs.surplus_node[n] > hs.nr_node[n]
        ]
        if host.profile.dissolve_lowers_max and hs.max_huge_pages != hs.persistent:
            defects.append(f"{hs.size}: max {hs.max_huge_pages}, nr - surplus {hs.persistent}")
        row = f"{hs.size}: nr/free/resv {hs.nr_huge_pages}/{hs.free_huge_pages}/{hs.resv_huge_pages}"
        if hs.free_huge_pages > hs.nr_huge_pages:
            broken.append(row)
        elif hs.resv_huge_pages > hs.free_huge_pages:
            known = (
                (hs.gigantic and host.profile.demotes_reserved)
                or hs.surplus_huge_pages > hs.nr_huge_pages  # a shrink takes nr - surplus for a huge number
                or check_hugetlb.reserved_beyond_free(hs, host)
            )
            (defects if known else broken).append(row)
        for total, nodes in ((hs.nr_huge_pages, hs.nr_node), (hs.free_huge_pages, hs.free_node),
                             (hs.surplus_huge_pages, hs.surplus_node)):  # fmt: skip
            if total != sum(nodes):
                broken.append(f"{hs.size}: total {total}, nodes {nodes}")
    name = "3: every hstate counter is consistent"
    if broken:
        return Law(name, False, tuple(broken))
    note = "a counter went below zero or counted twice, or more is reserved than free, as this kernel does"
    return Law(name, True, tuple(defects), note if defects else None)


def _zone_types(host: Host) -> list[str]:
    wrong = int((host.mem.mt > Migrate.ISOLATE).sum())
    walk = sparse_vmemmap.walk(host.mem, 0)
    return ([f"{wrong} pageblocks of unknown type"] if wrong else []) + (
        [] if walk is None or walk.pfn > 0 else ["struct page 0 maps to frame 0"]
    )


LAWS: dict[str, Callable[[Host], list[str]]] = {
    "1: every present page has one use; free + used = managed": _zone_counts,
    "1: free pages per pageblock": _block_counts,
    "1: free pages of CMA pageblocks": _cma_counts,
    "1: areas of CMA are disjoint": _areas_apart,
    "2: buddyinfo is the canonical split of the free pages": _buddy,
    "2: free pageblocks are on the lists of their zone": _lists,
    "lists of CPUs hold what is free on them": _lists_of_cpus,
    "3: pools equal their recount": _pools,
    "3: pages in use have owners": check_hugetlb.owners,
    "3: reservations have owners": check_hugetlb.promises,
    "3: mounts count what is on them": check_hugetlb.mounts,
    "3: charges of cgroups equal their recount": check_hugetlb.cgroups,
    "cgroups form a tree": check_hugetlb.cgroup_tree,
    "4: every vmemmap entry maps a frame of its own or the shared one": _vmemmap,
    "5: page-table frames = split sections": _page_tables,
    "tasks own the pages they use": _tasks_own_pages,
    "the deferred queue equals its flags": _deferred,
    "migratetypes are known": _zone_types,
}
