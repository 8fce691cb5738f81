"""A kernel version as data: everything in which kernels differ, each written as its difference to the one before.

This table is the only place that knows a kernel by its name: all else asks a profile for a rule.

Source: docs/kernel-rules.md 4.6 and 2.7, held against recordings of 5.14.2, 6.1.192 and 6.12.113.
"""

from dataclasses import dataclass, replace

from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.file_lines import LINES_5_14, LINES_6_1, LINES_6_12, LINES_6_18, FileLines


@dataclass(frozen=True, slots=True)
class KernelProfile:
    """The rules of one kernel version.

    Attributes:
        name: what specs, imports and recordings call it.
        release: what a host made from a spec calls its kernel.
        first_version: the oldest version that an import takes for this kernel.
        lines: names and order of the lines in its files.
        fresh_anon_active: fresh anonymous pages count as active (6.12, whose generations begin so).
        reserved_vmemmap_pages: vmemmap pages kept per optimised huge page (2 until 5.17, 1 since 5.18).
        fresh_head_frame: the kept page is copied to a new frame, so that all old frames are freed (6.2+).
        restore_thisnode: restoring takes frames of the huge page's own node only (until 6.6).
        bulk: growth optimises all fresh pages at the end, shrink restores in bulk (6.8+).
        param_parser: how ``hugetlb_free_vmemmap=`` is read: ``on-off`` (exactly these words), ``kstrtobool``, or
            ``early-kstrtobool``, for which the bare word is malformed.
        announces_when_off: the console names the savings even when the feature is off (5.19+).
        registered_text, savings_text: format strings of the boot console.
        crossing_text: what the console says when a struct page crosses page boundaries; None: nothing.
        sysctl_optimize: /proc/sys/vm/hugetlb_optimize_vmemmap exists (5.19+).
        demote: demote and demote_size files (5.16+).
        demotes_reserved: a demotion takes all pages asked for at once, reserved ones too (defect, 6.12).
        returns_gigantic_surplus: unused surplus gigantic pages are given back with their reservation (6.1+).
        max_watermark_scale_factor: limit of the sysctl, in 1/10000 of a zone.
        per_node_totals: a per-node write counts totals, surplus included (defect, until 6.6).
        dissolve_takes_surplus: dissolving a page of a node with surplus lowers surplus (6.12); else it
            underflows (defect, until 6.8).
        proc_negative_ignored: a negative number written to /proc/sys/vm is ignored (until 5.15), else EINVAL.
        node_dir_without_memory: nodeN/hugepages exists for nodes without memory (6.1+).
        hugepages_per_node: ``hugepages=0:1,1:2`` is understood (5.17+).
        hot_added_frames_lost: freeing parts of a hot-added section's vmemmap loses the frames (until 5.18).
        memmap_on_memory_excluded: vmemmap freeing switches memmap_on_memory off (until 5.18).
        poison_ignores_tails: a bad tail page of a free huge page is ignored in silence (5.14).
        poison_takes_failure_for_success: a huge page that cannot be dissolved counts as recovered (until 5.14).
        memmap_on_memory_any_size: memmap_on_memory serves memory of several blocks at once (6.8+).
        contig_skips_hugepages: the search for a gigantic page skips ranges that hold huge pages (6.3+, backported).
        isolation_pages: what alloc_contig_range isolates around its range (4 MiB until 5.18, then a pageblock).
        block_zone_from_pages: a memory block that ends behind its zone has none (until 5.17); else what it was at boot.
        deferred_init: struct pages of boot memory are initialised late, as Debian's 6.x do: pageblocks that were taken
            before stay Unmovable; else all begin as Movable.
        fault_asks_size_first: a touch beyond a file's end is a SIGBUS even if a page is there (until 6.0).
        cgroup_numa_stat: cgroups have hugetlb.<size>.numa_stat (5.17+).
        madvise_dontneed: MADV_DONTNEED of huge pages frees them (5.18+), else EINVAL.
        copies_avoid_minimum: a copy that an owner makes takes from a mount's minimum but leaves the reservation counted
            (5.14; the fix of 6.14 is in late releases of 6.1 and 6.12).
        unmap_restores_promises: an owner's page that is freed as it is unmapped is promised to it anew, unless there
            are surplus pages (6.9+).
        exact_promises: the reserve maps alone say who may use a promise, and a mount gets back what it gave (6.16+);
            until then refusals give a mount's minimum too much, and copies leave reservations behind (defects).
        restore_waits: restoring waits for an RCU grace period, so that an offline overtakes the worker (6.12).
        worker_waited_by_isolation: test_pages_isolated waits for the deferred-free worker (6.12).
        device_zone: zoneinfo lists an empty Device zone, protection has five entries (Debian 6.x).
        migration_counts_base_pages: pgmigrate_success counts the base pages of a huge page (6.1), else one.
        gigantic_freed_whole: a page of 1 GiB goes back to the buddy pageblock by pageblock (6.12), else page by page.
        pcp_flush_max_shift: a full list of a CPU gives at most this power of two of batches back; None: any (5.14).
        pcp_high_moves: a CPU's lists may grow beyond the low watermark's share while the zone has free memory, refills
            double, and a full list gives back as many as were freed in a row (6.7+); else that part doubles.
        pcp_round_robin: full lists are flushed in turn, fuller ones more (5.14); else the one that was freed to first.
        reserves_follow_managed: lowmem_reserve follows each page that becomes managed (6.18), else it waits for the
            next event that recomputes it.
        shrink_counts_free_surplus: free surplus pages do not keep a shrink from freeing others (6.18).
        dissolve_lowers_max: dissolving a page of a node with surplus lowers max as well (defect, 6.18).
        dequeue_skips_isolated: free huge pages of isolated pageblocks are not handed out (6.18).
        fresh_target_stays: a huge page that moved to a fresh page of its own node cannot move again until it is
            freed (defect, 6.18).
        empty_page_tables_freed: a process that gives memory back gives its empty page tables back as well (6.14+).
        cma_folder: what precedes an area's name in the name of its folder in debugfs (``cma-`` until 6.0).
        cma_ranges: that folder has one below for each range of the area (6.15+).
        gathers_from_lowest_node: surplus pages of a reservation come from the lowest node that is allowed (6.11+); else
            from the node that the task runs on (until 6.10, and 6.18).
        early_vmemmap: gigantic pages of the command line have a small vmemmap from the start (6.15+).
        isolation_keeps_types: pageblocks have their own type again after they were isolated (6.18).
        range_replaces_freed: huge pages of a range that became free when they moved are replaced as well (6.18).
        counts_hugetlb: huge pages in use are counted in nr_hugetlb; a page that moves is taken off twice (6.18).
        pageset_limits: zoneinfo has the limits of each CPU's list (6.18).
        hugetlb_cma_only: ``hugetlb_cma_only=`` is understood (6.15+).
        alloc_threads_line: the console says how long boot-time pages took, with how many threads (6.15+).
        cma_names_range: the console's texts about areas count ranges (6.15+).
        cma_counts_available: an area refuses at once what is more than its free pages, with EBUSY (6.15+).
        kernel_image_pages: reserved pages of a freshly booted kernel, for hosts made from a spec.
    """

    name: str
    release: str
    first_version: tuple[int, int]
    lines: FileLines
    fresh_anon_active: bool
    reserved_vmemmap_pages: int
    fresh_head_frame: bool
    restore_thisnode: bool
    bulk: bool
    param_parser: str
    announces_when_off: bool
    registered_text: str
    savings_text: str
    crossing_text: str | None
    sysctl_optimize: bool
    demote: bool
    demotes_reserved: bool
    returns_gigantic_surplus: bool
    max_watermark_scale_factor: int
    per_node_totals: bool
    dissolve_takes_surplus: bool
    proc_negative_ignored: bool
    node_dir_without_memory: bool
    hugepages_per_node: bool
    hot_added_frames_lost: bool
    memmap_on_memory_excluded: bool
    poison_ignores_tails: bool
    poison_takes_failure_for_success: bool
    memmap_on_memory_any_size: bool
    contig_skips_hugepages: bool
    isolation_pages: int
    block_zone_from_pages: bool
    deferred_init: bool
    fault_asks_size_first: bool
    cgroup_numa_stat: bool
    madvise_dontneed: bool
    copies_avoid_minimum: bool
    unmap_restores_promises: bool
    exact_promises: bool
    restore_waits: bool
    worker_waited_by_isolation: bool
    movable_min_clamped: bool
    device_zone: bool
    migration_counts_base_pages: bool
    gigantic_freed_whole: bool
    pcp_flush_max_shift: int | None
    pcp_high_moves: bool
    pcp_round_robin: bool
    restore_gfp_text: str
    reserves_follow_managed: bool
    shrink_counts_free_surplus: bool
    dissolve_lowers_max: bool
    dequeue_skips_isolated: bool
    fresh_target_stays: bool
    empty_page_tables_freed: bool
    cma_folder: str
    cma_ranges: bool
    early_vmemmap: bool
    isolation_keeps_types: bool
    range_replaces_freed: bool
    counts_hugetlb: bool
    pageset_limits: bool
    hugetlb_cma_only: bool
    alloc_threads_line: bool
    cma_names_range: bool
    cma_counts_available: bool
    gathers_from_lowest_node: bool
    kernel_image_pages: int

    def vmemmap_pages(self, order: int) -> int:
        """Vmemmap pages that describe one huge page: 8 for order 9, 4096 for order 18."""
        return (1 << order) * 64 // 4096

    def freeable_vmemmap_pages(self, order: int) -> int:
        """Vmemmap pages an optimised huge page gives back: 6 or 7 for order 9, 4094 or 4095 for order 18."""
        return max(0, self.vmemmap_pages(order) - self.reserved_vmemmap_pages)

    def boot_frames_freed(self, order: int) -> int:
        """Frames of boot memory that the first optimisation frees, by which MemTotal grows: 6, 7 or 8 for order 9."""
        return self.freeable_vmemmap_pages(order) + int(self.fresh_head_frame)


_5_14 = KernelProfile(
    name="5.14",
    release="5.14.0",
    first_version=(0, 0),
    lines=LINES_5_14,
    fresh_anon_active=False,
    reserved_vmemmap_pages=2,
    fresh_head_frame=False,
    restore_thisnode=True,
    bulk=False,
    param_parser="on-off",
    announces_when_off=False,
    registered_text="HugeTLB registered {size} page size, pre-allocated {count} pages",
    savings_text="HugeTLB: can free {pages} vmemmap pages for hugepages-{name}",
    crossing_text='HugeTLB: cannot free vmemmap pages because "struct page" crosses page boundaries',
    sysctl_optimize=False,
    demote=False,
    demotes_reserved=False,
    returns_gigantic_surplus=False,
    max_watermark_scale_factor=1000,
    per_node_totals=True,
    dissolve_takes_surplus=False,
    proc_negative_ignored=True,
    node_dir_without_memory=False,
    hugepages_per_node=False,
    hot_added_frames_lost=True,
    memmap_on_memory_excluded=True,
    poison_ignores_tails=True,
    poison_takes_failure_for_success=True,
    memmap_on_memory_any_size=False,
    contig_skips_hugepages=False,
    isolation_pages=1024,
    block_zone_from_pages=True,
    deferred_init=False,
    fault_asks_size_first=True,
    cgroup_numa_stat=False,
    madvise_dontneed=False,
    copies_avoid_minimum=True,
    unmap_restores_promises=False,
    exact_promises=False,
    restore_waits=False,
    worker_waited_by_isolation=False,
    movable_min_clamped=False,
    device_zone=False,
    migration_counts_base_pages=False,
    gigantic_freed_whole=False,
    pcp_flush_max_shift=None,
    pcp_high_moves=False,
    pcp_round_robin=True,
    restore_gfp_text="0x210cc0(GFP_KERNEL|__GFP_NORETRY|__GFP_THISNODE)",
    reserves_follow_managed=False,
    shrink_counts_free_surplus=False,
    dissolve_lowers_max=False,
    dequeue_skips_isolated=False,
    fresh_target_stays=False,
    empty_page_tables_freed=False,
    cma_folder="cma-",
    cma_ranges=False,
    early_vmemmap=False,
    isolation_keeps_types=False,
    range_replaces_freed=False,
    counts_hugetlb=False,
    pageset_limits=False,
    hugetlb_cma_only=False,
    alloc_threads_line=False,
    cma_names_range=False,
    cma_counts_available=False,
    gathers_from_lowest_node=False,
    kernel_image_pages=2561,
)
_6_1 = replace(
    _5_14,
    name="6.1",
    release="6.1.0",
    first_version=(5, 19),
    lines=LINES_6_1,
    reserved_vmemmap_pages=1,
    param_parser="kstrtobool",
    announces_when_off=True,
    registered_text="HugeTLB: registered {size} page size, pre-allocated {count} pages",
    savings_text="HugeTLB: {kib} KiB vmemmap can be freed for a {size} page",
    crossing_text=None,
    sysctl_optimize=True,
    demote=True,
    returns_gigantic_surplus=True,
    max_watermark_scale_factor=3000,
    proc_negative_ignored=False,
    node_dir_without_memory=True,
    hugepages_per_node=True,
    hot_added_frames_lost=False,
    memmap_on_memory_excluded=False,
    poison_ignores_tails=False,
    poison_takes_failure_for_success=False,
    contig_skips_hugepages=True,
    isolation_pages=512,
    block_zone_from_pages=False,
    deferred_init=True,
    fault_asks_size_first=False,
    cgroup_numa_stat=True,
    madvise_dontneed=True,
    copies_avoid_minimum=False,
    device_zone=True,
    migration_counts_base_pages=True,
    pcp_flush_max_shift=5,
    pcp_round_robin=False,
    cma_folder="",
    kernel_image_pages=8101,
)
_6_12 = replace(
    _6_1,
    name="6.12",
    release="6.12.0",
    first_version=(6, 7),
    lines=LINES_6_12,
    fresh_anon_active=True,
    fresh_head_frame=True,
    restore_thisnode=False,
    bulk=True,
    unmap_restores_promises=True,
    demotes_reserved=True,
    per_node_totals=False,
    dissolve_takes_surplus=True,
    memmap_on_memory_any_size=True,
    restore_waits=True,
    worker_waited_by_isolation=True,
    movable_min_clamped=True,
    gigantic_freed_whole=True,
    pcp_high_moves=True,
    restore_gfp_text="0x4cc0(GFP_KERNEL|__GFP_RETRY_MAYFAIL)",
    gathers_from_lowest_node=True,
    kernel_image_pages=9400,
)

_6_18 = replace(
    _6_12,
    name="6.18",
    release="6.18.0",
    first_version=(6, 15),
    lines=LINES_6_18,
    exact_promises=True,
    fresh_anon_active=False,
    deferred_init=False,
    device_zone=False,
    kernel_image_pages=2983,
    cma_ranges=True,
    early_vmemmap=True,
    isolation_keeps_types=True,
    range_replaces_freed=True,
    counts_hugetlb=True,
    pageset_limits=True,
    hugetlb_cma_only=True,
    alloc_threads_line=True,
    cma_names_range=True,
    param_parser="early-kstrtobool",
    cma_counts_available=True,
    gathers_from_lowest_node=False,
    reserves_follow_managed=True,
    empty_page_tables_freed=True,
    shrink_counts_free_surplus=True,
    dissolve_lowers_max=True,
    dequeue_skips_isolated=True,
    fresh_target_stays=True,
)

DEFAULT_KERNEL = _5_14.name
PROFILES: dict[str, KernelProfile] = {p.name: p for p in (_5_14, _6_1, _6_12, _6_18)}


def profile_of(kernel: str) -> KernelProfile:
    """The profile of a kernel name.  Raises BadInput when hugepool has no rules for it."""
    try:
        return PROFILES[kernel]
    except KeyError:
        known = ", ".join(PROFILES)
        raise BadInput(f"no rules for kernel {kernel!r}; known are {known}", where="kernel") from None
