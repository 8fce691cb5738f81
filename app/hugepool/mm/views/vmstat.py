"""Counters as the files would show them, gathered once: what dashboards read and replays compare.

Source: mm/vmstat.c, fs/proc/meminfo.c, hugetlb_report_meminfo() (5.14).
"""

from typing import Any

from hugepool.mm.kernel import hugetlb_cgroup, hugetlbfs
from hugepool.mm.machine.cgroups import HugetlbCgroup
from hugepool.mm.machine.mappings import Mount
from hugepool.mm.machine.mmzone import SectionState
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import KB_PER_PAGE, PAGE_SIZE, SECTION_PAGES


def mem_total_pages(host: Host) -> int:
    """MemTotal: managed pages of all zones."""
    return sum(zone.managed for zone in host.zones)


def free_plus_pcp_pages(host: Host) -> int:
    """Free pages, those on per-CPU lists included."""
    return sum(zone.nr_free + zone.nr_pcp for zone in host.zones)


def counters(host: Host) -> dict[str, Any]:
    """All counters a recording has, under the recording's names (see ``replay``)."""
    pools = host.hstates.values()
    default = host.hstates[host.default_order]
    return {
        "hugepages": {
            hs.size: {
                "nr_hugepages": hs.nr_huge_pages,
                "nr_hugepages_mempolicy": hs.nr_huge_pages,
                "free_hugepages": hs.free_huge_pages,
                "resv_hugepages": hs.resv_shown,
                "surplus_hugepages": hs.surplus_huge_pages,
                "nr_overcommit_hugepages": hs.nr_overcommit_huge_pages,
            }
            for hs in pools
        },
        "node_hugepages": {
            str(n.nid): {
                hs.size: {
                    "nr_hugepages": hs.nr_node[n.nid],
                    "free_hugepages": hs.free_node[n.nid],
                    "surplus_hugepages": hs.surplus_node[n.nid],
                }
                for hs in pools
            }
            for n in host.nodes
        },
        "sysctl": {
            "nr_hugepages": default.max_huge_pages,
            "nr_hugepages_mempolicy": default.max_huge_pages,
            "nr_overcommit_hugepages": default.nr_overcommit_huge_pages,
            "min_free_kbytes": host.min_free_kbytes,
        },
        "meminfo_kb": {
            "MemTotal": mem_total_pages(host) * KB_PER_PAGE,
            "HugePages_Total": default.nr_huge_pages,
            "HugePages_Free": default.free_huge_pages,
            "HugePages_Rsvd": default.resv_shown,
            "HugePages_Surp": default.surplus_huge_pages,
            "Hugetlb": sum(hs.nr_huge_pages * hs.pages * KB_PER_PAGE for hs in pools),
        },
        "free_plus_pcp_pages": free_plus_pcp_pages(host),
        "cache_pages": sum(share.pages for share in host.cached if share.kind != "slab"),
        "zones": _zones(host),
        "memory_blocks": block_states(host),
        "cgroups": _cgroups(host),
        "hugetlbfs": {mount.path: _statfs(host, mount) for mount in host.mounts},
    }


def _cgroups(host: Host) -> dict[str, dict[str, dict[str, Any]]]:
    """The files of cgroups with the hugetlb controller: bytes or ``max``, events as their count."""
    shown = {}
    for group in host.hugetlb_cgroups.values():
        if group.online:
            shown[group.path] = {hs.cgroup_name: _cgroup(group, hs) for hs in host.hstates.values()}
    return shown


def _cgroup(group: HugetlbCgroup, hs: HState) -> dict[str, Any]:
    pages, reservations = (hugetlb_cgroup.counter(group, kind, hs.order) for kind in hugetlb_cgroup.KINDS)
    size = hs.pages * PAGE_SIZE
    return {
        "current": pages.usage * size,
        "max": "max" if pages.max is None else pages.max * size,
        "rsvd.current": reservations.usage * size,
        "rsvd.max": "max" if reservations.max is None else reservations.max * size,
        "events": group.events[hs.order],
        "events.local": group.events_local[hs.order],
    }


def _statfs(host: Host, mount: Mount) -> dict[str, int]:
    blocks, free, files = hugetlbfs.statfs(mount)
    size = host.hstates[mount.order].pages * PAGE_SIZE
    return {"bsize": size, "blocks": blocks, "bfree": free, "bavail": free, "files": files, "ffree": files}


def _zones(host: Host) -> dict[str, dict[str, Any]]:
    return {
        f"{z.nid}/{z.name}": {
            "free": z.nr_free,
            "pcp": z.nr_pcp,
            "min": z.min,
            "low": z.low,
            "high": z.high,
            "spanned": z.spanned,
            "present": z.present,
            "managed": z.managed,
            "protection": list(z.lowmem_reserve),
        }
        for z in host.zones
    }


def block_states(host: Host) -> dict[str, str]:
    """State per memory block number: online or offline."""
    per_block = host.memory_block_pages // SECTION_PAGES
    words = {SectionState.ONLINE: "online", SectionState.OFFLINE: "offline"}
    states = host.mem.section_state
    return {
        str(first // per_block): words[SectionState(int(states[first : first + per_block].max()))]
        for first in range(0, host.mem.nr_sections, per_block)
        if states[first : first + per_block].any()
    }
