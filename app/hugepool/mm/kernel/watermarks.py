"""Watermarks and reserves of a whole host, after something moved that they follow."""

from hugepool.mm.kernel.page_alloc import (
    calculate_min_free_kbytes,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
)
from hugepool.mm.machine.state import Host


def setup_wmarks(host: Host) -> None:
    """Recompute the watermarks of all zones from min_free_kbytes."""
    clamped = host.profile.movable_min_clamped
    setup_per_zone_wmarks(
        host.nodes, host.min_free_kbytes, host.watermark_scale_factor, movable_clamped=clamped
    )


def memory_changed(host: Host) -> None:
    """Watermarks and reserves follow the managed pages; min_free_kbytes may change where no user set it.

    Source: mm/page_alloc.c init_per_zone_wmark_min(), mm/khugepaged.c khugepaged_min_free_kbytes_update() (5.14).
    """
    own = calculate_min_free_kbytes(host.nodes, thp=host.thp)
    if own > host.user_min_free_kbytes:
        host.min_free_kbytes = own
    setup_wmarks(host)
    setup_per_zone_lowmem_reserve(host.nodes, host.lowmem_reserve_ratio)
