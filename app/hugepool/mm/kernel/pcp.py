"""Single pages that were freed lately wait on the list of the CPU that freed them.

They are free in every counter here.  A huge page cannot count on them: watermarks do not see them (``nr_cached``), and
a pageblock with one of them in it is not whole in the buddy (``MemoryMap.resting_blocks``) until the list is drained.

Source: mm/page_alloc.c (5.14, 6.1, 6.12): free_unref_page_commit(), nr_pcp_free(), nr_pcp_high(), zone_batchsize().
"""

import numpy as np

from hugepool.mm.machine.mmzone import Pfns, Use, Zone
from hugepool.mm.machine.profile import KernelProfile
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

BATCH_ZONE_SHARE = 256  # pages of a zone that its batch is a quarter of, at most: 1 MiB


def batch_size(zone: Zone) -> int:
    """Pages that go to the buddy or come from it at once: 63 for zones of 256 MiB and more."""
    batch = max(1, min(zone.managed >> 10, BATCH_ZONE_SHARE) // 4)
    return max(1, (1 << (batch + batch // 2).bit_length() - 1) - 1)


def pcp_high(host: Host, zone: Zone) -> int:
    """Pages that the list of one CPU holds: the low watermark, or a fraction of the zone, shared by the node's CPUs.

    Source: mm/page_alloc.c zone_highsize() (5.14).
    """
    fraction = host.percpu_pagelist_high_fraction
    pages = zone.managed // fraction if fraction else zone.low
    return pages // max(1, len(host.nodes[zone.nid].cpus))


def resting(profile: KernelProfile, held: int, freed: int, high: int, batch: int) -> int:
    """Pages on a list that held some, after ``freed`` more in a row without an allocation.

    A full list gives a part back that grows in such a row: it doubles each time, or is (6.12) as many as were freed.
    """
    left, flushes = freed, 0
    while left >= high - held:
        step = max(1, high - held)
        left, held = left - step, held + step
        part = freed - left if profile.pcp_flush_counts else batch << min(flushes, high.bit_length())
        if profile.pcp_flush_max_shift is not None:
            part = min(part, batch << profile.pcp_flush_max_shift)
        held = max(0, held - max(batch, min(part, high - batch)))
        flushes += 1
    return held + left


def free_movable_pages(host: Host, pfns: Pfns) -> None:
    """Give single movable pages back in the order given: the last ones rest on the list."""
    host.mem.assign_pages(pfns, Use.BUDDY)
    zone_ids = host.mem.zone[pfns // PAGEBLOCK_PAGES]
    freed = np.bincount(zone_ids, minlength=len(host.zones) + 1).tolist()
    for zone in host.zones:
        count = freed[zone.id]
        if count:
            held, high, batch = zone.nr_cached + zone.nr_pcp, pcp_high(host, zone), batch_size(zone)
            left = resting(host.profile, held, count, high, batch)
            zone.nr_cached = max(0, left - zone.nr_pcp)
            mine = np.flatnonzero(zone_ids == zone.id)
            host.mem.rest(pfns[mine[count - min(left, count) :]])


def settle(host: Host, call: Call) -> None:
    """Restores of a command took frames: from the list first, where vmemmap frames that rest are unmovable, too.

    They are with Debian's 6.x, whose boot memory begins so; on 5.14 they are movable, and of no use to a restore.
    """
    if host.profile.deferred_init:
        for index, frames in call.restored_frames.items():
            zone = host.zones[index]
            zone.nr_cached = max(0, zone.nr_cached - frames)


def cache_freed(host: Host, zone: Zone, count: int) -> None:
    """Single pages were given back between others that were taken: they rest as far as the list holds them."""
    zone.nr_cached = min(zone.nr_cached + count, max(0, pcp_high(host, zone) - zone.nr_pcp))
