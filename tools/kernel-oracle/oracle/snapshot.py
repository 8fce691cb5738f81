"""The files that a guest's agent reads out, as the counters of a recording (docs/recordings.md)."""

import re
from typing import Any

KEPT_VMSTAT = (
    "nr_free_pages", "nr_free_cma", "htlb_buddy_alloc_success", "htlb_buddy_alloc_fail",
    "cma_alloc_success", "cma_alloc_fail", "pgmigrate_success", "pgmigrate_fail", "allocstall_normal", "oom_kill",
    "nr_page_table_pages", "allocstall_dma32", "allocstall_movable", "nr_inactive_file", "nr_active_file",
    "nr_unevictable", "nr_mlock", "nr_dirty", "nr_slab_reclaimable",
    "pgscan_direct", "pgsteal_direct", "pgscan_kswapd", "pgsteal_kswapd", "pageoutrun",
    "compact_stall", "compact_fail", "compact_success", "compact_isolated", "compact_migrate_scanned",
    "compact_daemon_wake", "nr_foll_pin_acquired", "nr_foll_pin_released",
)  # fmt: skip
NODE_POOL = re.compile(r"/sys/devices/system/node/node(\d+)/hugepages/hugepages-(\w+)/(\w+)")
POOL = re.compile(r"/sys/kernel/mm/hugepages/hugepages-(\w+)/(\w+)")
BLOCK_STATE = re.compile(r"/sys/devices/system/memory/memory(\d+)/state")
NOT_IMPORTED = re.compile(r"/node\d+/vmstat$|/debug/")
ZONE_WORDS = (
    "free", "min", "low", "high", "spanned", "present", "managed", "cma",
    "nr_zone_inactive_file", "nr_zone_active_file",
)  # fmt: skip
CGROUP = re.compile(r"/sys/fs/cgroup/(.+)/hugetlb\.(\w+?)\.(.+)")

Files = dict[str, str]


def files(blobs: list[tuple[str, bytes]]) -> Files:
    """Path -> text, without files that could not be read (of memory that was unplugged)."""
    return {path: data.decode("utf8", "replace") for path, data in blobs if not data.startswith(b"!errno=")}


def boot_files(read: Files, cmdline: str) -> Files:
    """The files that a host can be imported from."""
    return {path: text for path, text in read.items() if not NOT_IMPORTED.search(path)} | {
        "/proc/cmdline": cmdline + "\n"
    }


def counters(read: Files) -> dict[str, Any]:
    """All counters of a snapshot."""
    zones = _zones(read["/proc/zoneinfo"])
    vmstat = dict(line.split() for line in read["/proc/vmstat"].splitlines())
    pcp = sum(zone["pcp"] for zone in zones.values())
    extra = {"cgroups": _cgroups(read), "hugetlbfs": _mounts(read)}
    return {
        "hugepages": _pools(read),
        "node_hugepages": _node_pools(read),
        "sysctl": {
            path[13:]: _number(text) for path, text in read.items() if path.startswith("/proc/sys/vm/")
        },
        "meminfo_kb": _meminfo(read["/proc/meminfo"]),
        "free_plus_pcp_pages": sum(zone["free"] for zone in zones.values()) + pcp,
        "pcp_pages": pcp,
        "zones": zones,
        "buddyinfo": _buddyinfo(read["/proc/buddyinfo"]),
        "memory_blocks": _block_states(read),
        "vmstat": {word: int(vmstat[word]) for word in KEPT_VMSTAT if word in vmstat},
        **{name: value for name, value in extra.items() if value},
    }


def _number(text: str) -> int | str:
    word = text.strip()
    return int(word) if re.fullmatch(r"-?\d+", word) else word


def _pools(read: Files) -> dict[str, dict[str, int]]:
    """Pool -> file -> value."""
    out: dict[str, dict[str, int]] = {}
    for path, text in read.items():
        if (found := POOL.fullmatch(path)) and isinstance(value := _number(text), int):
            out.setdefault(found[1], {})[found[2]] = value
    return out


def _node_pools(read: Files) -> dict[str, dict[str, dict[str, int]]]:
    """Node -> pool -> file -> value."""
    out: dict[str, dict[str, dict[str, int]]] = {}
    for path, text in read.items():
        if (found := NODE_POOL.fullmatch(path)) and isinstance(value := _number(text), int):
            out.setdefault(found[1], {}).setdefault(found[2], {})[found[3]] = value
    return out


def _block_states(read: Files) -> dict[str, str]:
    found = ((BLOCK_STATE.fullmatch(path), text) for path, text in read.items())
    states = {int(match[1]): text.strip() for match, text in found if match}
    return {str(number): states[number] for number in sorted(states)}


def _cgroups(read: Files) -> dict[str, dict[str, dict[str, Any]]]:
    """Of every cgroup and huge page size: current, max, rsvd.current, rsvd.max (bytes, or "max"), events (a count)."""
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for path, text in read.items():
        if found := CGROUP.fullmatch(path):
            value = int(text.split()[1]) if found[3].startswith("events") else _number(text)
            out.setdefault(found[1], {}).setdefault(found[2], {})[found[3]] = value
    return out


def _mounts(read: Files) -> dict[str, dict[str, int]]:
    """What statfs says of every hugetlbfs that a step has mounted."""
    out = {}
    for path, text in read.items():
        if path.startswith("statfs:"):
            words = text.split()
            out[path[7:]] = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    return out


def _meminfo(text: str) -> dict[str, int]:
    return {word: int(value.split()[0]) for word, value in (line.split(":") for line in text.splitlines())}


def _buddyinfo(text: str) -> dict[str, list[int]]:
    rows = re.findall(r"Node (\d+), zone\s+(\S+)\s+(.*)", text)
    return {f"{node}/{zone}": [int(cell) for cell in cells.split()] for node, zone, cells in rows}


def _zones(text: str) -> dict[str, dict[str, Any]]:
    """``node/zone`` -> the words that are kept, the reserves, and the pages on per-CPU lists."""
    parts = re.findall(r"^Node (\d+), zone\s+(\S+)\n(.*?)(?=^Node|\Z)", text, re.MULTILINE | re.DOTALL)
    return {f"{node}/{name}": _zone(body) for node, name, body in parts}


def _zone(body: str) -> dict[str, Any]:
    zone: dict[str, Any] = {}
    for word in ZONE_WORDS:  # the first of each name: lines of the same name, as in vmstat, follow
        if found := re.search(rf"^\s+(?:pages )?{word}\s+(\d+)$", body, re.MULTILINE):
            zone[word] = int(found[1])
    if found := re.search(r"protection: \((.*)\)", body):
        zone["protection"] = [int(cell) for cell in found[1].split(",")]
    zone["pcp"] = sum(map(int, re.findall(r"^\s+count:\s+(\d+)", body, re.MULTILINE)))
    return zone
