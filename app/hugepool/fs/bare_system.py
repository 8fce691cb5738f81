"""A bare system of one process, as recorded on 5.14: what a host from a spec shows besides its pages."""

# Lines of meminfo, in kB.
BARE_SYSTEM_KB = {
    "Cached": 916, "Inactive": 92, "Inactive(anon)": 92, "Unevictable": 3112, "Mlocked": 3112,
    "AnonPages": 2304, "Mapped": 812, "Shmem": 916, "KReclaimable": 2176, "Slab": 6764,
    "SReclaimable": 2176, "SUnreclaim": 4588, "KernelStack": 544, "PageTables": 36,
    "Committed_AS": 3228, "VmallocTotal": 34359738367, "VmallocUsed": 6856, "Percpu": 392,
    "FilePages": 916,
}  # fmt: skip
# Counters of its first node, and of that node's highest zone, in pages.
BARE_SYSTEM_STATS = {
    "nr_inactive_anon": 23, "nr_unevictable": 778, "nr_slab_reclaimable": 544,
    "nr_slab_unreclaimable": 1147, "nr_anon_pages": 576, "nr_mapped": 203, "nr_file_pages": 229,
    "nr_shmem": 229, "nr_kernel_stack": 544, "nr_page_table_pages": 9,
}  # fmt: skip
BARE_SYSTEM_ZONE_STATS = {"nr_zone_inactive_anon": 23, "nr_zone_unevictable": 778, "nr_mlock": 778}
