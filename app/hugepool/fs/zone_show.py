"""The texts of /proc/zoneinfo, buddyinfo and pagetypeinfo.

Source: mm/vmstat.c zoneinfo_show_print(), frag_show_print(), pagetypeinfo_show() (5.14, 6.1, 6.12), byte for
byte.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hugepool.fs import account
from hugepool.fs.pagetypeinfo import CAP, MIGRATE_NAMES
from hugepool.mm.boot.pageblock_types import counted
from hugepool.mm.kernel.buddy import free_area, free_area_by_type
from hugepool.mm.kernel.pcp_sizes import batch_size, pcp_high
from hugepool.mm.machine.mmzone import ZONE_NAMES, Zone
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import NR_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

Record = dict[str, Any]
THRESHOLD_MAX = 125
MIN_HIGH_FRACTION = 8  # of a zone's pages, at least, that all lists of CPUs leave alone


def populated(host: Host) -> Iterator[Zone]:
    """Zones with memory, in the order of the files."""
    for node in host.nodes:
        yield from (zone for zone in node.zones if zone.present)


def buddyinfo(host: Host) -> str:
    """/proc/buddyinfo: one line a zone with memory."""
    return "".join(
        f"Node {zone.nid}, zone {zone.name:>8} {_columns(free_area(host.mem, zone), 6)}\n"
        for zone in populated(host)
    )


def _columns(counts: Iterable[int], width: int) -> str:
    return "".join(f"{count:{width}d} " for count in counts)


# -- pagetypeinfo ----------------------------------------------------------------------------------------


def pagetypeinfo(host: Host) -> str:
    """/proc/pagetypeinfo: per node, free blocks by type and order, then pageblocks by type."""
    types = _migratetypes(host)
    return "".join(_node_types(host, node.nid, types) for node in host.nodes if node.present)


def _migratetypes(host: Host) -> tuple[str, ...]:
    return tuple(host.carried.get("migratetypes", account.lines_of(host).migratetypes))


def _node_types(host: Host, nid: int, types: tuple[str, ...]) -> str:
    zones = [zone for zone in host.nodes[nid].zones if zone.present]
    exact = host.carried.get("uncapped", False)
    lines = [
        f"Page block order: {PAGEBLOCK_ORDER}",
        f"Pages per block:  {PAGEBLOCK_PAGES}",
        "",
        f"{'Free pages count per migrate type at order':<43} {_columns(range(NR_ORDERS), 6)}",
    ]
    for zone in zones:
        counts = _with_lag(host, zone, "free", free_area_by_type(host.mem, zone))
        for name in types:
            cells = "".join(
                _capped(count, exact=exact) for count in counts[MIGRATE_NAMES.index(name)].tolist()
            )
            lines.append(f"Node {nid:4d}, zone {zone.name:>8}, type {name:>12} {cells}")
    lines += ["", f"{'Number of blocks type ':<23}{''.join(f'{name:>12} ' for name in types)}"]
    for zone in zones:
        of_zone = host.mem.mt[counted(host.mem, zone)]
        blocks = np.bincount(of_zone, minlength=len(MIGRATE_NAMES))[None, :]
        row = _with_lag(host, zone, "blocks", blocks)[0]
        lines.append(
            f"Node {nid}, zone {zone.name:>8} {_columns((row[MIGRATE_NAMES.index(n)] for n in types), 12)}"
        )
    return "\n".join(lines) + "\n"


def _with_lag(host: Host, zone: Zone, part: str, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts by type, with what the file of an imported machine said and its placed pages do not."""
    lag = account.lag(host, "pagetypeinfo").get(f"{zone.nid}/{zone.name}", {})
    shown: npt.NDArray[np.int64] = np.maximum(0, counts + np.array(lag.get(part, 0)))
    return shown


def _capped(count: int, *, exact: bool) -> str:
    """A count as the kernel prints it; since 5.4 it stops counting at 100,000.

    Source: mm/vmstat.c pagetypeinfo_showfree_print() (5.14).
    """
    return f"{count:6d} " if exact or count < CAP else f">{CAP:6d} "


# -- zoneinfo --------------------------------------------------------------------------------------------


def zoneinfo(host: Host) -> str:
    """/proc/zoneinfo: all zones of all nodes, empty ones in short."""
    parts = []
    anon = account.anon_by_zone(host)
    for node in host.nodes:
        first = next((zone.name for zone in populated(host) if zone.nid == node.nid), None)
        for record in _records(host, node.nid):
            zone = next((zone for zone in node.zones if zone.name == record["name"]), None)
            parts.append(f"Node {node.nid}, zone {record['name']:>8}\n")
            if zone is not None and zone.name == first:
                parts.append(_node_part(host, node.nid, account.added_up(anon[z.index] for z in node.zones)))
            parts.append(_levels(host, zone, record))
            if zone is not None and zone.present:
                parts.append(_counters_and_pagesets(host, zone, record, anon[zone.index]))
    return "".join(parts)


def _records(host: Host, nid: int) -> list[Record]:
    kept = [record for record in host.carried.get("zoneinfo", []) if record["nid"] == nid]
    return kept or [_bare_record(host, name) for name in _zone_names(host)]


def _zone_names(host: Host) -> tuple[str, ...]:
    return (*ZONE_NAMES, "Device") if host.profile.device_zone else ZONE_NAMES


def _bare_record(host: Host, name: str) -> Record:
    return {"name": name, "levels": account.lines_of(host).zone_levels, "values": {}, "tail": [], "after": [],
            "reserves": len(_zone_names(host)), "pcp": 0}  # fmt: skip


def _node_part(host: Host, nid: int, anon: account.AnonPages) -> str:
    stats = account.with_tasks(account.node_stats(host, nid), anon, host.profile)
    return "  per-node stats\n" + "".join(_stat_line(name, count) for name, count in stats.items())


def _stat_line(name: str, count: int) -> str:
    return f"      {name:<12} {account.unsigned(count)}\n"


def _levels(host: Host, zone: Zone | None, record: Record) -> str:
    values = record["values"] if zone is None else {**record["values"], **_modelled_levels(zone)}
    reserve = zone.lowmem_reserve if zone else [0] * len(ZONE_NAMES)
    reserve = [*reserve, reserve[-1]][: record["reserves"]]
    return (
        f"  pages free     {_free(host, zone) if zone else 0}\n"
        + "".join(f"        {name:<8} {values.get(name, 0)}\n" for name in record["levels"])
        + f"        protection: ({', '.join(map(str, reserve))})\n"
    )


def _modelled_levels(zone: Zone) -> dict[str, int]:
    return {
        "min": zone.min,
        "low": zone.low,
        "high": zone.high,
        "promo": zone.high + (zone.low - zone.min),
        "spanned": zone.spanned,
        "present": zone.present,
        "managed": zone.managed,
        "cma": zone.cma,
    }


def _free(host: Host, zone: Zone) -> int:
    return max(0, zone.nr_free + int(account.lag(host, "zoneinfo").get(f"{zone.nid}/{zone.name}", 0)))


def _counters_and_pagesets(host: Host, zone: Zone, record: Record, anon: account.AnonPages) -> str:
    stats = account.with_tasks(account.zone_stats(host, zone), anon, host.profile)
    free = {"nr_free_pages": _free(host, zone), **account.free_stats(host, zone, stats)}
    stats = {name: free.get(name, count) for name, count in stats.items()}
    tail = record["tail"] or _bare_tail(host, zone)
    return (
        "".join(_stat_line(name, count) for name, count in stats.items())
        + "".join(line + "\n" for line in _with_pcp(tail, zone.nr_pcp, record["pcp"]))
        + f"  start_pfn:           {zone.start_pfn}\n"
        + "".join(line + "\n" for line in record["after"])
    )


def _with_pcp(tail: list[str], nr_pcp: int, imported: int) -> Iterator[str]:
    """The page sets; when the lists were drained since the import, what is left stands with the first CPU."""
    left = nr_pcp
    for line in tail:
        head, colon, count = line.partition("count:")
        if not colon or nr_pcp == imported:
            yield line
        else:
            yield f"{head}count: {left:>{len(count) - 1}d}"
            left = 0


def _pageset(host: Host, zone: Zone, high: int, batch: int) -> list[str]:
    """The list of a CPU without pages.  Source: mm/vmstat.c zoneinfo_show_print() (5.14, 6.18)."""
    if not host.profile.pageset_limits:
        return ["              count: 0", f"              high:  {high}", f"              batch: {batch}"]
    most = zone.managed // MIN_HIGH_FRACTION // max(1, len(host.nodes[zone.nid].cpus))
    values = {"count": 0, "high": high, "batch": batch, "high_min": high, "high_max": max(high, most)}
    return [f"              {name + ':':<9} {value}" for name, value in values.items()]


def _bare_tail(host: Host, zone: Zone) -> list[str]:
    cpus = sorted(cpu for node in host.nodes for cpu in node.cpus)
    high, batch = pcp_high(host, zone), batch_size(zone)
    threshold = 2 * len(cpus).bit_length() * (1 + (zone.managed >> 15).bit_length())
    lines = ["  pagesets"]
    for cpu in cpus:
        lines += [f"    cpu: {cpu}", *_pageset(host, zone, high, batch)]
        lines += [f"  vm stats threshold: {min(threshold, THRESHOLD_MAX)}"]
    return [*lines, "  node_unreclaimable:  0"]
