"""What a comparison reads off recorded steps and snapshots: kinds of steps, files they write, sizes of pools."""

from typing import Any

from hugepool.mm.machine.units import BLOCKS_PER_1G, PAGEBLOCK_PAGES
from hugepool.replay.trace import Step

PROCESS_STEPS = ("start", "fork", "exit", "anon-grow", "anon-shrink", "anon-map", "kernel-grow", "kernel-shrink",
                 "kernel-map", "kernel-thin", "mempolicy")  # fmt: skip
TOUCHING_STEPS = ("huge-touch", "huge-write", "huge-read")
MAPPING_STEPS = (*TOUCHING_STEPS, "huge-map", "huge-unmap", "huge-file-allocate", "unlink", "huge-file", "huge-madvise",
                 "hugetlbfs-mount", "umount", "cgroup", "cgroup-write", "cgroup-move")  # fmt: skip
EXHAUSTION = 0.01
SIZE = "2048kB"
GIGANTIC = "1048576kB"
HIGH_FRACTION = "/percpu_pagelist_high_fraction"
SWITCH = "/hugetlb_optimize_vmemmap"
BLOCK_DIR = "/sys/devices/system/memory/memory"
RANGE_FILE = "/alloc"  # of a CMA area in debugfs
BOOST_SLACK = 2  # of each mark, from rounding
WATERMARKS = ("min", "low", "high")


def is_torn(kernel: dict[str, Any]) -> bool:
    """Whether the worker ran while a snapshot was read: sysfs, read first, and meminfo are of different moments."""
    size = f"{kernel['meminfo_kb']['Hugepagesize']}kB"
    return bool(kernel["meminfo_kb"]["HugePages_Total"] != kernel["hugepages"][size]["nr_hugepages"])


def pool_files(counters: dict[str, Any]) -> Any:
    return counters["hugepages"], counters.get("node_hugepages")


def exhausted(recorded: int) -> int:
    """By how many huge pages two growths to exhaustion may differ."""
    return max(1, int(recorded * EXHAUSTION))


def on_lists(kernel: dict[str, Any], nid: str) -> int:
    """Huge pages that the lists of CPUs of a node hold the memory of."""
    zones = kernel["zones"].items()
    return int(sum(zone["pcp"] for name, zone in zones if name.split("/")[0] == nid)) // PAGEBLOCK_PAGES


def paths(step: Step) -> list[str]:
    """Files that a step writes."""
    written = step.op["writes"] if step.do == "writes" else [step.op]
    return [str(one.get("path", "")) for one in written]


def is_hotplug(step: Step) -> bool:
    """Whether a step plugs memory in or out, switches a block, or drains all lists with watermarks raised."""
    states = any(path.startswith(BLOCK_DIR) for path in paths(step))
    return step.do in ("virtio-mem", "squeeze") or "outside" in step.op or states


def boosted(kernel: dict[str, Any], model: dict[str, Any]) -> int:
    """By how much a zone's watermarks are boosted: whole pageblocks, or the most there is; 0: they are not.

    The allocator boosts them when it steals a pageblock, until kswapd has worked, which here is no rule.
    Source: mm/page_alloc.c boost_watermark() (5.14).
    """
    shifts = [kernel[word] - model[word] for word in WATERMARKS]
    most = model["high"] * 3 // 2
    blocks = shifts[0] + 1 >= PAGEBLOCK_PAGES and (shifts[0] + 1) % PAGEBLOCK_PAGES <= BOOST_SLACK
    same = max(shifts) - min(shifts) <= BOOST_SLACK
    return shifts[0] if same and (blocks or abs(shifts[0] - most) <= BOOST_SLACK) else 0


def managed_gap(kernel: dict[str, Any], model: dict[str, Any]) -> int:
    """How far managed pages of all zones are apart, from placement."""
    zones = kernel["zones"].items()
    return sum(
        abs(zone["managed"] - model["zones"][name]["managed"]) for name, zone in zones if zone["present"]
    )


def protection_slack(gap: int) -> int:
    """Reserves are managed pages of the zones above divided by 32 or 256."""
    return -(-gap // 32) if gap else 0


def pool_size(counters: dict[str, Any], size: str, node: str | None) -> int:
    if node is None:
        return int(counters["hugepages"][size]["nr_hugepages"])
    return int(counters["node_hugepages"][node][size]["nr_hugepages"])


def pageblocks_of(counters: dict[str, Any], size: str) -> int:
    """Pages of a pool in units of 2 MiB."""
    return pool_size(counters, size, None) * (BLOCKS_PER_1G if size == GIGANTIC else 1)


def all_pools(counters: dict[str, Any]) -> int:
    """Pages of all pools in units of 2 MiB."""
    return sum(pageblocks_of(counters, size) for size in counters["hugepages"])


def surplus_of(counters: dict[str, Any]) -> dict[str, int]:
    """Surplus pages by size: a defect can leave some of a pool that is gone."""
    return {size: files["surplus_hugepages"] for size, files in counters["hugepages"].items()}


def persistent_pages(counters: dict[str, Any], size: str) -> int:
    """Pages of a size that are no surplus."""
    files = counters["hugepages"][size]
    return int(files["nr_hugepages"] - files["surplus_hugepages"])


def asked_of(step: Step) -> tuple[str, int, str | None] | None:
    """Size, count and node of a pool write."""
    if step.do not in ("write", "squeeze"):
        return None
    path, data = step.op["path"], step.op["data"].strip()
    if not path.endswith(("nr_hugepages", "nr_hugepages_mempolicy")) or not data.isdigit():
        return None
    size = "2048kB" if path.startswith("/proc/") else path.rsplit("/", 2)[1].removeprefix("hugepages-")
    node = path.split("/node/node")[1].split("/")[0] if "/node/node" in path else None
    return size, int(data), node
