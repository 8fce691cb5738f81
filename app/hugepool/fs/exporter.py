"""A host's files as the metrics that node_exporter makes of them, under its names.

Five of its collectors read what hosts here have: buddyinfo, meminfo, meminfo_numa, vmstat and zoneinfo.  All of them
go by the text of the files, so a line that a file gains is a metric here as there.
Source: github.com/prometheus/node_exporter collector/{buddyinfo,meminfo,meminfo_numa,vmstat,zoneinfo}_linux.go (1.5).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from hugepool.fs.render import render
from hugepool.mm.machine.state import Host

Kind = Literal["gauge", "counter", "untyped"]
Texts = dict[str, str]  # by path
BUDDYINFO, MEMINFO, VMSTAT, ZONEINFO = "/proc/buddyinfo", "/proc/meminfo", "/proc/vmstat", "/proc/zoneinfo"
NODES = "/sys/devices/system/node"
BYTES_PER_KB = 1024
ZONE = re.compile(r"Node (?P<node>\d+), zone +(?P<zone>\w+)")
PROTECTION = re.compile(r"protection: \((.*)\)")
# Lines of zoneinfo by the name of their metric; the rest of the file's lines have none.
ZONE_LEVELS = {name: f"{name}_pages" for name in ("min", "low", "high", "spanned", "present", "managed")}
ZONE_GAUGES = {
    "nr_free_pages": "nr_free_pages",
    "nr_kernel_stack": "nr_kernel_stacks",
    "nr_anon_transparent_hugepages": "nr_anon_transparent_hugepages",
    "nr_anon_pages": "nr_anon_pages",
    "nr_file_pages": "nr_file_pages",
} | {
    f"nr_{name}": f"nr_{name}_pages"
    for name in (
        "active_anon", "inactive_anon", "isolated_anon", "active_file", "inactive_file", "isolated_file",
        "slab_reclaimable", "slab_unreclaimable", "mapped", "dirty", "writeback", "unevictable", "shmem",
    )
}  # fmt: skip
ZONE_COUNTERS = {
    name: f"{name}_total"
    for name in (
        "nr_dirtied", "nr_written", "numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local",
        "numa_other",
    )
}  # fmt: skip


@dataclass(slots=True)
class Family:
    """Metrics of one name: a value for each set of labels."""

    kind: Kind
    about: str
    samples: list[tuple[dict[str, str], int]] = field(default_factory=list)


Families = dict[str, Family]


def texts(host: Host) -> Texts:
    """The files that metrics are made of, as they are now."""
    paths = [BUDDYINFO, MEMINFO, VMSTAT, ZONEINFO]
    paths += [f"{NODES}/node{nid}/{name}" for nid in host.memory_nodes() for name in ("meminfo", "numastat")]
    return {path: render(host, path) for path in paths}


def families(found: Texts) -> Families:
    """The metrics in the texts of files, by name."""
    made: Families = {}
    for name, kind, labels, value in _samples(found):
        family = made.setdefault(name, Family(kind, f"As node_exporter reads it: {name}."))
        family.samples.append((labels, value))
    return made


Sample = tuple[str, Kind, dict[str, str], int]


def _samples(found: Texts) -> Iterator[Sample]:
    yield from _buddyinfo(found[BUDDYINFO])
    yield from _meminfo(found[MEMINFO])
    yield from _vmstat(found[VMSTAT])
    yield from _zoneinfo(found[ZONEINFO])
    for path, text in found.items():
        if path.startswith(NODES):
            node = path.split("/")[-2].removeprefix("node")
            yield from (_node_meminfo if path.endswith("/meminfo") else _numastat)(text, node)


def _buddyinfo(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        place = ZONE.match(line)
        if place is not None:
            for order, count in enumerate(line[place.end() :].split()):
                yield "node_buddyinfo_blocks", "gauge", {**place.groupdict(), "size": str(order)}, int(count)


def _meminfo(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        name, value, *unit = line.replace(":", " ").split()
        suffix, factor = ("_bytes", BYTES_PER_KB) if unit else ("", 1)
        yield f"node_memory_{_word(name)}{suffix}", "gauge", {}, int(value) * factor


def _node_meminfo(text: str, node: str) -> Iterator[Sample]:
    for line in text.splitlines():
        _, _, name, value, *unit = line.replace(":", " ").split()
        yield (
            f"node_memory_numa_{_word(name)}",
            "gauge",
            {"node": node},
            int(value) * (BYTES_PER_KB if unit else 1),
        )


def _numastat(text: str, node: str) -> Iterator[Sample]:
    for line in text.splitlines():
        name, value = line.split()
        yield f"node_memory_numa_{name}_total", "counter", {"node": node}, int(value)


def _vmstat(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        name, value = line.split()
        yield f"node_vmstat_{_word(name)}", "untyped", {}, int(value)


def _word(name: str) -> str:
    """``Active(anon)`` as a part of a metric's name."""
    return name.replace("(", "_").replace(")", "")


def _zoneinfo(text: str) -> Iterator[Sample]:
    labels: dict[str, str] = {}
    for line in text.splitlines():
        place = ZONE.match(line)
        if place is not None:
            labels = place.groupdict()
            continue
        protected = PROTECTION.search(line)
        if protected is not None:
            for index, value in enumerate(protected[1].split(", ")):
                yield f"node_zoneinfo_protection_{index}", "gauge", labels, int(value)
            continue
        name, _, value = line.strip().partition(" ")
        if name in ZONE_COUNTERS:
            yield f"node_zoneinfo_{ZONE_COUNTERS[name]}", "counter", labels, int(value)
        elif name in ZONE_GAUGES or name in ZONE_LEVELS:
            known = ZONE_GAUGES.get(name) or ZONE_LEVELS[name]
            yield f"node_zoneinfo_{known}", "gauge", labels, int(value)
