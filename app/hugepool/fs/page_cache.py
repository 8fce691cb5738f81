"""How much of a machine's page cache is clean, and of its kernel objects reclaimable, by zone and by node."""

from collections.abc import Mapping, Sequence

from hugepool.fs.procfs import ZoneText
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.machine.units import KB_PER_PAGE

FILE_LISTS = ("nr_zone_inactive_file", "nr_zone_active_file")
# Pages of files that do not go at once: by the name of a node's counter, and of the line of meminfo.
KEPT = {"nr_mapped": "Mapped", "nr_dirty": "Dirty", "nr_writeback": "Writeback"}


def add_cache(image: MachineImage, zones: Sequence[ZoneText]) -> None:
    """Say of each zone how many of its pages are clean page cache, and of each node how many are reclaimable slab.

    Dirty and mapped pages are counted by node only: each zone has its share.
    """
    cached = {(zone.nid, zone.name): sum(zone.stats.get(name, 0) for name in FILE_LISTS) for zone in zones}
    stats = {zone.nid: zone.node_stats for zone in zones if zone.node_stats}
    total = sum(cached.values())
    for each in image.zones:
        mine = cached.get((each.nid, each.name), 0)
        of_node = sum(pages for (nid, _), pages in cached.items() if nid == each.nid)
        kept, whole = _kept(stats.get(each.nid, {}), of_node, image.meminfo_kb, total)
        each.clean_cache = mine - min(mine, -(-kept * mine // whole)) if whole else 0
    image.reclaimable_slab = {nid: named.get("nr_slab_reclaimable", 0) for nid, named in stats.items()}


def _kept(
    stats: Mapping[str, int], of_node: int, meminfo_kb: Mapping[str, int], total: int
) -> tuple[int, int]:
    """Pages of files that stay, and among how many they are: on the node, or where it does not say, on the machine."""
    if any(name in stats for name in KEPT):
        return sum(stats.get(name, 0) for name in KEPT), of_node
    return sum(meminfo_kb.get(line, 0) for line in KEPT.values()) // KB_PER_PAGE, total
