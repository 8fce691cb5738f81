"""Names and order of the lines that each kernel prints, for hosts that no real file came with.

Each table is the list of 5.14 and what later kernels removed from it or added behind a name; checked against
the boot files of the recordings.  Imported hosts keep the lines of their own files.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """What one kernel changed against the one before: names gone, and new names by the name they follow."""

    gone: tuple[str, ...] = ()
    new: dict[str, str] = field(default_factory=dict)


def _lists(base: str, in_6_1: Change, in_6_12: Change) -> dict[str, tuple[str, ...]]:
    lists = {"5.14": tuple(base.split())}
    for kernel, before, change in (("6.1", "5.14", in_6_1), ("6.12", "6.1", in_6_12)):
        names = change.new.get("", "").split()
        for name in lists[before]:
            names += [] if name in change.gone else [name]
            names += change.new.get(name, "").split()
        lists[kernel] = tuple(names)
    return lists


MEMINFO = _lists(
    """MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon)
    Active(file) Inactive(file) Unevictable Mlocked SwapTotal SwapFree Dirty Writeback AnonPages Mapped
    Shmem KReclaimable Slab SReclaimable SUnreclaim KernelStack PageTables NFS_Unstable Bounce
    WritebackTmp CommitLimit Committed_AS VmallocTotal VmallocUsed VmallocChunk Percpu HardwareCorrupted
    AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped CmaTotal CmaFree
    HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp Hugepagesize Hugetlb DirectMap4k
    DirectMap2M DirectMap1G""",
    Change(("HardwareCorrupted", "CmaTotal", "CmaFree"), {"PageTables": "SecPageTables"}),
    Change(new={"Percpu": "HardwareCorrupted", "FilePmdMapped": "Unaccepted"}),
)
NODE_MEMINFO = _lists(
    """MemTotal MemFree MemUsed SwapCached Active Inactive Active(anon) Inactive(anon) Active(file)
    Inactive(file) Unevictable Mlocked Dirty Writeback FilePages Mapped AnonPages Shmem KernelStack
    PageTables NFS_Unstable Bounce WritebackTmp KReclaimable Slab SReclaimable SUnreclaim AnonHugePages
    ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped HugePages_Total HugePages_Free
    HugePages_Surp""",
    Change(new={"PageTables": "SecPageTables"}),
    Change(new={"FilePmdMapped": "Unaccepted"}),
)
NODE_STATS = _lists(
    """nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable
    nr_slab_unreclaimable nr_isolated_anon nr_isolated_file workingset_nodes workingset_refault_anon
    workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon
    workingset_restore_file workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages nr_dirty
    nr_writeback nr_writeback_temp nr_shmem nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages
    nr_file_pmdmapped nr_anon_transparent_hugepages nr_vmscan_write nr_vmscan_immediate_reclaim
    nr_dirtied nr_written nr_kernel_misc_reclaimable nr_foll_pin_acquired nr_foll_pin_released
    nr_kernel_stack nr_page_table_pages""",
    Change(
        new={
            "nr_written": "nr_throttled_written",
            "nr_page_table_pages": "nr_sec_page_table_pages nr_swapcached pgpromote_success"
            " pgpromote_candidate",
        }
    ),
    Change(
        new={
            "nr_sec_page_table_pages": "nr_iommu_pages",
            "pgpromote_candidate": "pgdemote_kswapd pgdemote_direct pgdemote_khugepaged",
        }
    ),
)
ZONE_STATS = _lists(
    """nr_free_pages nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file
    nr_zone_unevictable nr_zone_write_pending nr_mlock nr_bounce nr_free_cma numa_hit numa_miss
    numa_foreign numa_interleave numa_local numa_other""",
    Change(new={"nr_bounce": "nr_zspages"}),
    Change(new={"nr_free_cma": "nr_unaccepted"}),
)
ZONE_LEVELS = _lists(
    "min low high spanned present managed cma",
    Change(new={"": "boost"}),
    Change(new={"high": "promo"}),
)
# What /proc/vmstat has behind the zone and node counters.
VM_EVENTS = _lists(
    """nr_dirty_threshold nr_dirty_background_threshold pgpgin pgpgout pswpin pswpout pgalloc_dma
    pgalloc_dma32 pgalloc_normal pgalloc_movable allocstall_dma allocstall_dma32 allocstall_normal
    allocstall_movable
    pgskip_dma pgskip_dma32 pgskip_normal pgskip_movable pgfree pgactivate pgdeactivate pglazyfree
    pgfault pgmajfault pglazyfreed pgrefill pgreuse pgsteal_kswapd pgsteal_direct pgscan_kswapd
    pgscan_direct pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon pgsteal_file
    zone_reclaim_failed pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly
    kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache drop_slab oom_kill
    pgmigrate_success pgmigrate_fail thp_migration_success thp_migration_fail thp_migration_split
    compact_migrate_scanned compact_free_scanned compact_isolated compact_stall compact_fail
    compact_success compact_daemon_wake compact_daemon_migrate_scanned compact_daemon_free_scanned
    htlb_buddy_alloc_success htlb_buddy_alloc_fail cma_alloc_success cma_alloc_fail
    unevictable_pgs_culled unevictable_pgs_scanned unevictable_pgs_rescued unevictable_pgs_mlocked
    unevictable_pgs_munlocked unevictable_pgs_cleared unevictable_pgs_stranded thp_fault_alloc
    thp_fault_fallback thp_fault_fallback_charge thp_collapse_alloc thp_collapse_alloc_failed
    thp_file_alloc thp_file_fallback thp_file_fallback_charge thp_file_mapped thp_split_page
    thp_split_page_failed thp_deferred_split_page thp_split_pmd thp_split_pud thp_zero_page_alloc
    thp_zero_page_alloc_failed thp_swpout thp_swpout_fallback balloon_inflate balloon_deflate
    balloon_migrate direct_map_level2_splits direct_map_level3_splits nr_unstable""",
    Change(
        ("cma_alloc_success", "cma_alloc_fail"),
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
    ),
    Change(
        ("pgdemote_kswapd", "pgdemote_direct"),
        {
            "nr_dirty_background_threshold": "nr_memmap_pages nr_memmap_boot_pages",
            "pgsteal_direct": "pgsteal_khugepaged",
            "pgscan_direct": "pgscan_khugepaged",
            "pgsteal_file": "zone_reclaim_success",
            "thp_deferred_split_page": "thp_underused_split_page",
            "swap_ra_hit": "swpin_zero swpout_zero",
        },
    ),
)
MIGRATETYPES = {
    "5.14": ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate"),
    "6.1": ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"),
    "6.12": ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"),
}
NUMASTAT = {
    "numa_hit": "numa_hit",
    "numa_miss": "numa_miss",
    "numa_foreign": "numa_foreign",
    "interleave_hit": "numa_interleave",
    "local_node": "numa_local",
    "other_node": "numa_other",
}
# A bare system of one process, as recorded on 5.14, in kB: what a host from a spec shows besides its pages.
BARE_SYSTEM_KB = {
    "Cached": 916, "Inactive": 92, "Inactive(anon)": 92, "Unevictable": 3112, "Mlocked": 3112,
    "AnonPages": 2304, "Mapped": 812, "Shmem": 916, "KReclaimable": 2176, "Slab": 6764,
    "SReclaimable": 2176, "SUnreclaim": 4588, "KernelStack": 544, "PageTables": 36,
    "Committed_AS": 3228, "VmallocTotal": 34359738367, "VmallocUsed": 6856, "Percpu": 392,
    "FilePages": 916,
}  # fmt: skip
BARE_SYSTEM_STATS = {
    "nr_inactive_anon": 23, "nr_unevictable": 778, "nr_slab_reclaimable": 544,
    "nr_slab_unreclaimable": 1147, "nr_anon_pages": 576, "nr_mapped": 203, "nr_file_pages": 229,
    "nr_shmem": 229, "nr_kernel_stack": 544, "nr_page_table_pages": 9,
}  # fmt: skip
BARE_SYSTEM_ZONE_STATS = {"nr_zone_inactive_anon": 23, "nr_zone_unevictable": 778, "nr_mlock": 778}
