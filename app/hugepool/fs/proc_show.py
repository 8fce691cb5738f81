"""The texts of /proc/meminfo, vmstat, cmdline, mounts and of nodeN/{meminfo,vmstat,numastat}.

Source: fs/proc/meminfo.c, mm/vmstat.c vmstat_show(), drivers/base/node.c (5.14), byte for byte.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from hugepool.fs import account, bare_system, cached
from hugepool.fs.procfs import MEMINFO_END, node_end
from hugepool.mm.machine.mappings import Mount
from hugepool.mm.machine.mmzone import Zone
from hugepool.mm.machine.state import Host, node_counter
from hugepool.mm.machine.units import KB_PER_PAGE, PAGE_SIZE

Numbers = dict[str, int]
UINT_MAX = (1 << 32) - 1
ESCAPED = {ord(c): f"\\{ord(c):03o}" for c in " \t\n\\#"}  # as /proc/mounts writes what could be misread
NUMASTAT = {
    "numa_hit": "numa_hit",
    "numa_miss": "numa_miss",
    "numa_foreign": "numa_foreign",
    "interleave_hit": "numa_interleave",
    "local_node": "numa_local",
    "other_node": "numa_other",
}


def meminfo(host: Host) -> str:
    """/proc/meminfo."""
    carried = account.carried_kb(host)
    names = carried if "meminfo" in host.carried else account.lines_of(host).meminfo
    values = carried | account.meminfo(host)
    ends = host.carried.get("columns", {}).get("meminfo", {})
    return "".join(_line(name, values.get(name, 0), ends.get(name, MEMINFO_END)) for name in names)


def _line(name: str, value: int, end: int) -> str:
    """``name:``, the number right-aligned at column ``end``, and the unit; a long number moves the end."""
    unit = "" if name.startswith("HugePages_") else " kB"
    label = f"{name}:".ljust(16)
    return f"{label}{value:>{max(0, end - len(label))}d}{unit}\n"


def node_meminfo(host: Host, nid: int) -> str:
    """nodeN/meminfo; the HugePages lines are of the default size, without Rsvd."""
    imported = host.carried.get("node_meminfo", {}).get(str(nid))
    carried = imported or _bare_node(host, nid)
    names = imported or account.lines_of(host).node_meminfo
    values = dict.fromkeys(names, 0) | carried | _node_memory(host, nid, carried)
    values |= cached.lines_kb(values, cached.of_node(host, nid))
    ends = host.carried.get("columns", {}).get("node_meminfo", {})
    return "".join(
        f"Node {nid} " + _line(name, values.get(name, 0), ends.get(name, node_end(name))) for name in names
    )


def _bare_node(host: Host, nid: int) -> Numbers:
    return (
        bare_system.BARE_SYSTEM_KB if nid == host.memory_nodes()[0] and "zoneinfo" not in host.carried else {}
    )


def _node_memory(host: Host, nid: int, carried: Numbers) -> Numbers:
    node = host.nodes[nid]
    late = account.lag(host, "node_meminfo").get(str(nid), {})
    total = node.managed * KB_PER_PAGE + late.get("MemTotal", 0)
    free = max(0, node.nr_free * KB_PER_PAGE + late.get("MemFree", 0))
    hs = host.hstates[host.default_order]
    anon = account.anon_lines(host, carried, [account.anon_by_node(host)[nid]])
    return anon | {
        "MemTotal": total,
        "MemFree": free,
        "MemUsed": total - free,
        "HugePages_Total": hs.nr_node[nid] & UINT_MAX,
        "HugePages_Free": hs.free_node[nid] & UINT_MAX,
        "HugePages_Surp": hs.surplus_node[nid] & UINT_MAX,
    }


# -- vmstat ----------------------------------------------------------------------------------------------


def vmstat(host: Host) -> str:
    """/proc/vmstat: zone counters, node counters, events."""
    imported: Numbers = host.carried.get("vmstat", {})
    names: Iterable[str] = imported or account.lines_of(host).vmstat
    # The host's counters began with those of the import.
    values = dict.fromkeys(names, 0) | (imported or _bare_stats()) | host.counters
    anon = account.added_up(account.anon_by_zone(host).values())
    values = account.with_tasks(values, anon, host.profile)
    values |= cached.counters(values, cached.of_host(host))
    values |= account.free_counters(host, values)
    if "nr_hugetlb" in values:  # the kernel shows no node counter below zero
        values["nr_hugetlb"] = max(0, values["nr_hugetlb"])
    return _counters(names, values | _free_sums(host.zones, host, values))


def _free_sums(zones: Iterable[Zone], host: Host, names: Container[str]) -> Numbers:
    """Counters that follow from the free pages of some zones."""
    sums: Counter[str] = Counter()
    for zone in zones:
        sums.update(account.free_stats(host, zone, names))
    return sums


def _bare_stats() -> Numbers:
    return bare_system.BARE_SYSTEM_STATS | bare_system.BARE_SYSTEM_ZONE_STATS


def _counters(names: Iterable[str], values: Mapping[str, int]) -> str:
    return "".join(f"{name} {account.unsigned(values.get(name, 0))}\n" for name in names)


def node_vmstat(host: Host, nid: int) -> str:
    """nodeN/vmstat: the zone counters summed over the node, then the node counters."""
    imported: Numbers = host.carried.get("node_vmstat", {}).get(str(nid), {})
    zones, node = _zone_sums(host, nid), account.node_stats(host, nid)
    names: Iterable[str] = imported or (*zones, *node)
    moved = {name: node[name] for name in node if node_counter(nid, name) in host.counters}
    values = dict.fromkeys(names, 0) | zones | node | imported | moved
    values = account.with_tasks(values, account.anon_by_node(host)[nid], host.profile)
    values |= cached.counters(values, cached.of_node(host, nid))
    late = sum(account.lag(host, "zoneinfo").get(f"{nid}/{zone.name}", 0) for zone in host.nodes[nid].zones)
    values["nr_free_pages"] = max(0, host.nodes[nid].nr_free + late)
    values |= _free_sums(host.nodes[nid].zones, host, values)
    return _counters(names, values)


def _zone_sums(host: Host, nid: int) -> Numbers:
    """Counters of a node's zones, added up."""
    sums = dict.fromkeys(account.zone_stat_names(host), 0)
    for zone in host.nodes[nid].zones:
        for name, count in account.zone_stats(host, zone).items():
            sums[name] = sums.get(name, 0) + count
    return sums


def numastat(host: Host, nid: int) -> str:
    """nodeN/numastat: six lines of two words."""
    imported: Numbers = host.carried.get("numastat", {}).get(str(nid), {})
    sums = _zone_sums(host, nid)
    values = {name: sums.get(event, 0) for name, event in NUMASTAT.items()} | imported
    return _counters(values, values)


# -- short ones ------------------------------------------------------------------------------------------


def mounts(host: Host) -> str:
    """/proc/mounts: the file systems that are modelled.

    Source: fs/hugetlbfs/inode.c hugetlbfs_show_options() (5.14).
    """
    return (
        "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n"
        "sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0\n"
        "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"
        + "".join(_hugetlbfs(host, mount) for mount in host.mounts)
    )


def _hugetlbfs(host: Host, mount: Mount) -> str:
    size = host.hstates[mount.order].pages * PAGE_SIZE
    limits = (("size", mount.max), ("min_size", mount.min))
    options = "".join(f",{name}={pages * size}" for name, pages in limits if pages != -1)
    path = mount.path.translate(ESCAPED)
    return f"hugetlbfs {path} hugetlbfs rw,relatime,pagesize={size >> 20}M{options} 0 0\n"
