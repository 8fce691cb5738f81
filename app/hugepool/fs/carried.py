"""What hugepool does not model is carried: the order and values of lines, and by how much counters lagged.

``MachineImage.carried`` holds, all of it plain JSON data:

* ``meminfo``: {line: kB or count}, in the file's order
* ``vmstat``: {name: number}; ``node_vmstat``, ``numastat``: {"0": {name: number}}
* ``node_meminfo``: {"0": {line: kB or count}}
* ``zoneinfo``: one record a zone in the file's order, empty ones included: ``nid, name``, ``levels`` (names
  of the lines between ``pages free`` and ``protection``), ``values`` (those that are not modelled),
  ``reserves`` (entries of protection), ``node_stats``, ``stats``, ``tail`` (raw lines from ``pagesets`` on),
  ``after`` (those behind start_pfn), ``pcp``
* ``lag``: {"meminfo": {line: kB}, "node_meminfo": {"0": {line: kB}}, "zoneinfo": {"0/Normal": pages},
  "vmstat": {name: pages}}: what the file said minus what the machine's state says.  NR_FREE_PAGES lags behind
  the free lists by per-CPU deltas, files are read one after the other, and some kernels count memory that no
  zone manages yet.  Rendering adds it, so that an import shows what the files showed.
* ``columns``: {"meminfo": {line: column}, "node_meminfo": {line: column}}: where numbers end, if not as usual
* ``zone_movable_pages``: {"0/Normal": pages on the LRU lists}: anonymous memory and page cache
* ``migratetypes`` (columns of pagetypeinfo), ``uncapped`` (its counts go above 100,000), ``possible`` (of the
  nodes), ``overcommit_ratio``, ``version``: where given
* ``assumptions``: what no file says and what is taken instead, a sentence each
"""

from collections.abc import Mapping, Sequence

from hugepool.fs.consistency import NODES
from hugepool.fs.formulas import Marks, dirty_thresholds, si_mem_available, vm_commit_limit
from hugepool.fs.pagetypeinfo import TypesText
from hugepool.fs.procfs import ZoneText, columns, parse_counters, parse_node_meminfo
from hugepool.fs.textfile import value
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.machine.mmzone import ZONE_NAMES
from hugepool.mm.machine.units import KB_PER_PAGE

MODELLED_LEVELS = ("min", "low", "high", "spanned", "present", "managed", "cma")
LRU_LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
DEFAULT_OVERCOMMIT_RATIO = 50


def carried_fields(
    files: Mapping[str, str], image: MachineImage, zones: Sequence[ZoneText], types: TypesText
) -> dict[str, object]:
    """``MachineImage.carried`` of a machine whose other fields are filled in already."""
    node_meminfo = _of_nodes(files, "meminfo")
    carried: dict[str, object] = {
        "meminfo": dict(image.meminfo_kb),
        "vmstat": dict(image.vmstat),
        "zoneinfo": [_zone_record(zone) for zone in zones],
        "zone_movable_pages": {f"{z.nid}/{z.name}": _lru_pages(z) for z in zones if z.stats},
        "node_meminfo": node_meminfo,
        "columns": {
            "meminfo": columns(files["/proc/meminfo"], of_node=False),
            "node_meminfo": {
                name: end
                for nid in node_meminfo
                for name, end in columns(files[f"{NODES}/node{nid}/meminfo"], of_node=True).items()
            },
        },
        "node_vmstat": _of_nodes(files, "vmstat"),
        "numastat": _of_nodes(files, "numastat"),
        "lag": {
            "meminfo": _meminfo_lag(files, image),
            "node_meminfo": {nid: _node_lag(image, int(nid), of) for nid, of in node_meminfo.items()},
            "zoneinfo": _zone_lag(image, zones),
            "vmstat": _vmstat_lag(image),
        },
    }
    ratio = value(files, "/proc/sys/vm/overcommit_ratio", 1 << 31)
    if ratio is not None:
        carried["overcommit_ratio"] = ratio
    for key, path in (("version", "/proc/version"), ("possible", f"{NODES}/possible")):
        if path in files:
            carried[key] = files[path].strip()
    if types.names:
        carried["migratetypes"] = list(types.names)
        carried["uncapped"] = not types.capped
    carried["assumptions"] = list(image.assumptions)
    return carried


def _of_nodes(files: Mapping[str, str], name: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for nid in range(1024):
        path = f"{NODES}/node{nid}/{name}"
        if path in files and name == "meminfo":
            found[str(nid)] = parse_node_meminfo(path, files[path], nid)
        elif path in files:
            found[str(nid)] = parse_counters(path, files[path])
    return found


def _zone_record(zone: ZoneText) -> dict[str, object]:
    modelled = MODELLED_LEVELS if zone.name in ZONE_NAMES else ()
    return {
        "nid": zone.nid,
        "name": zone.name,
        "levels": list(zone.levels),
        "values": {name: n for name, n in zone.levels.items() if name not in modelled},
        "reserves": len(zone.protection),
        "node_stats": zone.node_stats,
        "stats": zone.stats,
        "tail": zone.tail,
        "after": zone.after,
        "pcp": zone.pcp,
    }


def _lru_pages(zone: ZoneText) -> int:
    return sum(zone.stats.get(f"nr_zone_{name}", 0) for name in LRU_LISTS)


# -- lag: what a file said minus what the state says -----------------------------------------------------


def _nonzero(differences: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in differences.items() if n}


def _meminfo_lag(files: Mapping[str, str], image: MachineImage) -> dict[str, int]:
    said = image.meminfo_kb
    total = sum(zone.managed for zone in image.zones)
    marks = [Marks(zone.low, zone.high, zone.managed, zone.protection) for zone in image.zones]
    file_pages = (said.get("Active(file)", 0) + said.get("Inactive(file)", 0)) // KB_PER_PAGE
    reclaimable = said.get("KReclaimable", said.get("SReclaimable", 0)) // KB_PER_PAGE
    huge = sum(pool.nr << pool.order for pool in image.pools)
    ratio = value(files, "/proc/sys/vm/overcommit_ratio", 1 << 31)
    # MemAvailable and CommitLimit follow MemFree and MemTotal as the file has them: their lag comes on top.
    computed = {
        "MemTotal": total,
        "MemFree": sum(zone.free for zone in image.zones),
        "MemAvailable": si_mem_available(marks, said["MemFree"] // KB_PER_PAGE, file_pages, reclaimable),
        "CommitLimit": vm_commit_limit(
            said["MemTotal"] // KB_PER_PAGE,
            huge,
            said.get("SwapTotal", 0) // KB_PER_PAGE,
            ratio or DEFAULT_OVERCOMMIT_RATIO,
        ),
    }
    return _nonzero(
        {name: said[name] - pages * KB_PER_PAGE for name, pages in computed.items() if name in said}
    )


def _node_lag(image: MachineImage, nid: int, said: dict[str, int]) -> dict[str, int]:
    zones = [zone for zone in image.zones if zone.nid == nid]
    computed = {
        "MemTotal": sum(zone.managed for zone in zones) * KB_PER_PAGE,
        "MemFree": sum(zone.free for zone in zones) * KB_PER_PAGE,
    }
    return _nonzero({name: said[name] - kb for name, kb in computed.items() if name in said})


def _zone_lag(image: MachineImage, zones: Sequence[ZoneText]) -> dict[str, int]:
    said = {f"{zone.nid}/{zone.name}": zone.free for zone in zones}
    free = {f"{zone.nid}/{zone.name}": zone.free for zone in image.zones}
    return _nonzero({key: said[key] - pages for key, pages in free.items()})


def _vmstat_lag(image: MachineImage) -> dict[str, int]:
    said = image.vmstat
    free = sum(zone.free for zone in image.zones)
    marks = [Marks(zone.low, zone.high, zone.managed, zone.protection) for zone in image.zones]
    # As with MemAvailable: the thresholds follow nr_free_pages as the file has it.
    file_pages = said.get("nr_active_file", 0) + said.get("nr_inactive_file", 0)
    limits = dirty_thresholds(marks, said.get("nr_free_pages", free), file_pages)
    computed = {"nr_free_pages": free, **limits}
    return _nonzero({name: said[name] - pages for name, pages in computed.items() if name in said})
