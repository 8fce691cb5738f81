"""Names and order of the lines in each kernel's files: what a host without imported files shows.

Each kernel is written as its difference to the one before; an imported host keeps the lines of its own files.

Source: fs/proc/meminfo.c, drivers/base/node.c, mm/vmstat.c vmstat_text[], mm/page_alloc.c migratetype_names[]
(5.14, 6.1, 6.12), as configured in the recorded guests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileLines:
    """The lines of one kernel.

    Attributes:
        meminfo: /proc/meminfo.
        node_meminfo: nodeN/meminfo, without the prefix.
        node_stats: per-node counters of zoneinfo and vmstat.
        zone_stats: counters of a zone.
        zone_levels: lines of zoneinfo from ``min`` to ``cma``.
        vm_events: what /proc/vmstat has after the zone and node counters.
        migratetypes: columns of pagetypeinfo.
    """

    meminfo: Names
    node_meminfo: Names
    node_stats: Names
    zone_stats: Names
    zone_levels: Names
    vm_events: Names
    migratetypes: Names

    @property
    def vmstat(self) -> Names:
        """/proc/vmstat."""
        return self.zone_stats + self.node_stats + self.vm_events

    def with_cma(self) -> "FileLines":
        """The lines of the same kernel built with CMA, as one with areas is; a kernel may be built without."""
        if "CmaTotal" in self.meminfo:
            return self
        return replace(
            self,
            meminfo=edited(self.meminfo, {"FilePmdMapped": "CmaTotal CmaFree"}),
            vm_events=edited(self.vm_events, {"htlb_buddy_alloc_fail": "cma_alloc_success cma_alloc_fail"}),
            migratetypes=edited(self.migratetypes, {"HighAtomic": "CMA"}),
        )


def _words(text: str) -> Names:
    return tuple(text.split())


def edited(names: Names, new: Mapping[str, str], gone: str = "") -> Names:
    """The lines of the next kernel.

    Args:
        names: the lines of the kernel before.
        new: names to insert, by the name that they follow; those under "" come first.
        gone: names that the next kernel lacks.

    Raises:
        ValueError: ``new`` or ``gone`` mentions a line that is not there.
    """
    if unknown := ({*new} - {""} | {*gone.split()}) - {*names}:
        raise ValueError(f"no such lines: {', '.join(sorted(unknown))}")
    lines = new.get("", "").split()
    for name in names:
        lines += [] if name in gone.split() else [name]
        lines += new.get(name, "").split()
    return tuple(lines)


LINES_5_14 = FileLines(
    meminfo=_words(
        """MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon)
        Inactive(anon) Active(file) Inactive(file) Unevictable Mlocked SwapTotal SwapFree Dirty
        Writeback AnonPages Mapped Shmem KReclaimable Slab SReclaimable SUnreclaim KernelStack
        PageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS VmallocTotal VmallocUsed
        VmallocChunk Percpu HardwareCorrupted AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages
        FilePmdMapped CmaTotal CmaFree HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp
        Hugepagesize Hugetlb DirectMap4k DirectMap2M DirectMap1G"""
    ),
    node_meminfo=_words(
        """MemTotal MemFree MemUsed SwapCached Active Inactive Active(anon) Inactive(anon) Active(file)
        Inactive(file) Unevictable Mlocked Dirty Writeback FilePages Mapped AnonPages Shmem KernelStack
        PageTables NFS_Unstable Bounce WritebackTmp KReclaimable Slab SReclaimable SUnreclaim
        AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped HugePages_Total
        HugePages_Free HugePages_Surp"""
    ),
    node_stats=_words(
        """nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable
        nr_slab_reclaimable nr_slab_unreclaimable nr_isolated_anon nr_isolated_file workingset_nodes
        workingset_refault_anon workingset_refault_file workingset_activate_anon
        workingset_activate_file workingset_restore_anon workingset_restore_file workingset_nodereclaim
        nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_writeback_temp nr_shmem
        nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped
        nr_anon_transparent_hugepages nr_vmscan_write nr_vmscan_immediate_reclaim nr_dirtied nr_written
        nr_kernel_misc_reclaimable nr_foll_pin_acquired nr_foll_pin_released nr_kernel_stack
        nr_page_table_pages"""
    ),
    zone_stats=_words(
        """nr_free_pages nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file
        nr_zone_active_file nr_zone_unevictable nr_zone_write_pending nr_mlock nr_bounce nr_free_cma
        numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other"""
    ),
    zone_levels=_words("min low high spanned present managed cma"),
    vm_events=_words(
        """nr_dirty_threshold nr_dirty_background_threshold pgpgin pgpgout pswpin pswpout pgalloc_dma
        pgalloc_dma32 pgalloc_normal pgalloc_movable allocstall_dma allocstall_dma32 allocstall_normal
        allocstall_movable pgskip_dma pgskip_dma32 pgskip_normal pgskip_movable pgfree pgactivate
        pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed pgrefill pgreuse pgsteal_kswapd
        pgsteal_direct pgscan_kswapd pgscan_direct pgscan_direct_throttle pgscan_anon pgscan_file
        pgsteal_anon pgsteal_file zone_reclaim_failed pginodesteal slabs_scanned kswapd_inodesteal
        kswapd_low_wmark_hit_quickly kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache
        drop_slab oom_kill pgmigrate_success pgmigrate_fail thp_migration_success thp_migration_fail
        thp_migration_split compact_migrate_scanned compact_free_scanned compact_isolated compact_stall
        compact_fail compact_success compact_daemon_wake compact_daemon_migrate_scanned
        compact_daemon_free_scanned htlb_buddy_alloc_success htlb_buddy_alloc_fail cma_alloc_success
        cma_alloc_fail unevictable_pgs_culled unevictable_pgs_scanned unevictable_pgs_rescued
        unevictable_pgs_mlocked unevictable_pgs_munlocked unevictable_pgs_cleared
        unevictable_pgs_stranded thp_fault_alloc thp_fault_fallback thp_fault_fallback_charge
        thp_collapse_alloc thp_collapse_alloc_failed thp_file_alloc thp_file_fallback
        thp_file_fallback_charge thp_file_mapped thp_split_page thp_split_page_failed
        thp_deferred_split_page thp_split_pmd thp_split_pud thp_zero_page_alloc
        thp_zero_page_alloc_failed thp_swpout thp_swpout_fallback balloon_inflate balloon_deflate
        balloon_migrate direct_map_level2_splits direct_map_level3_splits nr_unstable"""
    ),
    migratetypes=_words("Unmovable Movable Reclaimable HighAtomic CMA Isolate"),
)
LINES_6_1 = replace(
    LINES_5_14,
    meminfo=edited(LINES_5_14.meminfo, {"PageTables": "SecPageTables"}, "HardwareCorrupted CmaTotal CmaFree"),
    node_meminfo=edited(LINES_5_14.node_meminfo, {"PageTables": "SecPageTables"}),
    node_stats=edited(
        LINES_5_14.node_stats,
        {
            "nr_written": "nr_throttled_written",
            "nr_page_table_pages": "nr_sec_page_table_pages nr_swapcached pgpromote_success pgpromote_candidate",
        },
    ),
    zone_stats=edited(LINES_5_14.zone_stats, {"nr_bounce": "nr_zspages"}),
    zone_levels=edited(LINES_5_14.zone_levels, {"": "boost"}),
    vm_events=edited(
        LINES_5_14.vm_events,
        {
            "pgalloc_movable": "pgalloc_device",
            "allocstall_movable": "allocstall_device",
            "pgskip_movable": "pgskip_device",
            "pgsteal_direct": "pgdemote_kswapd pgdemote_direct",
            "oom_kill": "numa_pte_updates numa_huge_pte_updates numa_hint_faults numa_hint_faults_local"
            " numa_pages_migrated",
            "thp_split_pmd": "thp_scan_exceed_none_pte thp_scan_exceed_swap_pte thp_scan_exceed_share_pte",
            "balloon_migrate": "swap_ra swap_ra_hit ksm_swpin_copy cow_ksm",
        },
        "cma_alloc_success cma_alloc_fail",
    ),
    migratetypes=edited(LINES_5_14.migratetypes, {}, "CMA"),
)
LINES_6_12 = replace(
    LINES_6_1,
    meminfo=edited(LINES_6_1.meminfo, {"Percpu": "HardwareCorrupted", "FilePmdMapped": "Unaccepted"}),
    node_meminfo=edited(LINES_6_1.node_meminfo, {"FilePmdMapped": "Unaccepted"}),
    node_stats=edited(
        LINES_6_1.node_stats,
        {
            "nr_sec_page_table_pages": "nr_iommu_pages",
            "pgpromote_candidate": "pgdemote_kswapd pgdemote_direct pgdemote_khugepaged",
        },
    ),
    zone_stats=edited(LINES_6_1.zone_stats, {"nr_free_cma": "nr_unaccepted"}),
    zone_levels=edited(LINES_6_1.zone_levels, {"high": "promo"}),
    vm_events=edited(
        LINES_6_1.vm_events,
        {
            "nr_dirty_background_threshold": "nr_memmap_pages nr_memmap_boot_pages",
            "pgsteal_direct": "pgsteal_khugepaged",
            "pgscan_direct": "pgscan_khugepaged",
            "pgsteal_file": "zone_reclaim_success",
            "thp_deferred_split_page": "thp_underused_split_page",
            "swap_ra_hit": "swpin_zero swpout_zero",
        },
        "pgdemote_kswapd pgdemote_direct",
    ),
)
LINES_6_18 = replace(
    LINES_6_12,
    meminfo=edited(LINES_6_12.meminfo, {"FilePmdMapped": "CmaTotal CmaFree Balloon"}, "Unaccepted"),
    node_meminfo=edited(LINES_6_12.node_meminfo, {}, "Unaccepted"),
    node_stats=edited(
        LINES_6_12.node_stats,
        {"pgdemote_khugepaged": "pgdemote_proactive nr_hugetlb nr_balloon_pages nr_kernel_file_pages"},
        "nr_writeback_temp nr_iommu_pages nr_swapcached pgpromote_success pgpromote_candidate",
    ),
    zone_stats=edited(
        LINES_6_12.zone_stats,
        {"nr_free_pages": "nr_free_pages_blocks"},
        "nr_bounce nr_zspages nr_unaccepted",
    ),
    vm_events=edited(
        LINES_6_12.vm_events,
        {
            "pgsteal_khugepaged": "pgsteal_proactive",
            "pgscan_khugepaged": "pgscan_proactive",
            "htlb_buddy_alloc_fail": "cma_alloc_success cma_alloc_fail",
            "direct_map_level3_splits": "direct_map_level2_collapses direct_map_level3_collapses",
        },
        """pgalloc_device allocstall_device pgskip_device numa_pte_updates numa_huge_pte_updates numa_hint_faults
        numa_hint_faults_local numa_pages_migrated balloon_inflate balloon_deflate balloon_migrate swap_ra
        swap_ra_hit swpin_zero swpout_zero ksm_swpin_copy cow_ksm""",
    ),
    migratetypes=edited(LINES_6_12.migratetypes, {"HighAtomic": "CMA"}),
)
