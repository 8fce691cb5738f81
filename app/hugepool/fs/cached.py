"""The lines and counters that the page cache moves: what the host's files showed at first, and what changed since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hugepool.mm.kernel.filemap import KINDS, pages_in_zone
from hugepool.mm.machine.mmzone import Zone
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import KB_PER_PAGE

ADDED_KB = {
    "clean": ("Cached", "FilePages", "Inactive", "Inactive(file)"),
    "dirty": ("Cached", "FilePages", "Inactive", "Inactive(file)", "Dirty"),
    "slab": ("KReclaimable", "SReclaimable", "Slab"),
}
ADDED_STATS = {
    "clean": ("nr_file_pages", "nr_inactive_file", "nr_zone_inactive_file"),
    "dirty": (
        "nr_file_pages",
        "nr_inactive_file",
        "nr_zone_inactive_file",
        "nr_dirty",
        "nr_zone_write_pending",
    ),
    "slab": ("nr_slab_reclaimable",),
}
# Where a line that would fall below zero takes the rest from: what was active, and the cache of block devices.
NEXT = {
    "Inactive(file)": "Active(file)",
    "Inactive": "Active",
    "Cached": "Buffers",
    "nr_inactive_file": "nr_active_file",
    "nr_zone_inactive_file": "nr_zone_active_file",
}


@dataclass(slots=True)
class CacheChange:
    """Pages of 4 KiB by which the cache is larger than the files of the machine said, or than nothing."""

    clean: int = 0
    dirty: int = 0
    slab: int = 0

    def __add__(self, other: "CacheChange") -> "CacheChange":
        """Both together."""
        return CacheChange(self.clean + other.clean, self.dirty + other.dirty, self.slab + other.slab)

    @property
    def file_pages(self) -> int:
        """Pages of files."""
        return self.clean + self.dirty


def of_zone(host: Host, zone: Zone) -> CacheChange:
    """The change in a zone: recounted, where anything is cached."""
    before = host.carried.get("cached", {}).get(f"{zone.nid}/{zone.name}", {})
    if not before and not host.cached:
        return CacheChange()
    return CacheChange(
        **{kind: pages_in_zone(host.mem, zone, use) - before.get(kind, 0) for kind, use in KINDS.items()}
    )


def of_node(host: Host, nid: int) -> CacheChange:
    """The change on a node, by the shares."""
    found = CacheChange()
    for name, before in host.carried.get("cached", {}).items():
        if name.split("/")[0] == str(nid):
            found += CacheChange(**{kind: -pages for kind, pages in before.items()})
    for share in host.cached:
        if share.node == nid:
            found += CacheChange(**{share.kind: share.pages})
    return found


def of_host(host: Host) -> CacheChange:
    """The change of the whole machine."""
    return sum((of_node(host, node.nid) for node in host.nodes), CacheChange())


def lines_kb(values: Mapping[str, int], change: CacheChange) -> dict[str, int]:
    """Lines of meminfo with a change; those that there are."""
    return _added(values, change, ADDED_KB, KB_PER_PAGE)


def counters(values: Mapping[str, int], change: CacheChange) -> dict[str, int]:
    """Counters of a zone, of a node or of both with a change; those that there are."""
    return _added(values, change, ADDED_STATS, 1)


def _added(
    values: Mapping[str, int], change: CacheChange, names: Mapping[str, Sequence[str]], unit: int
) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, touched in names.items():
        for name in touched:
            if name in values:
                found[name] = found.get(name, values[name]) + getattr(change, kind) * unit
    for name, other in NEXT.items():
        if found.get(name, 0) < 0:
            found[other] = found.get(other, values.get(other, 0)) + found[name]
    return {name: max(0, value) for name, value in found.items()}
