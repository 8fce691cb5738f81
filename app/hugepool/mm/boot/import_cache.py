"""Page cache and reclaimable kernel objects of an imported machine: how much of each zone they are, and whose."""

from collections.abc import Sequence

from hugepool.mm.boot.image import MachineImage
from hugepool.mm.boot.import_zones import Budget
from hugepool.mm.kernel.filemap import KINDS, THE_MACHINE, pages_in_zone, raise_share
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Use
from hugepool.mm.machine.state import Host


def movable_share(host: Host, budget: Budget) -> int:
    """Anonymous and page-cache pages of the zone: ZONE_MOVABLE holds nothing else; /proc/zoneinfo counts them."""
    carried = host.carried.get("zone_movable_pages", {})
    known = carried.get(f"{budget.zone.nid}/{budget.zone.name}") if isinstance(carried, dict) else None
    if budget.zone.type == ZONE_MOVABLE:
        return budget.used
    return int(known) if known is not None else 0


def share_out(host: Host, image: MachineImage, budgets: Sequence[Budget]) -> None:
    """Set how much of each zone's used memory is clean page cache, and reclaimable slab.

    A node's slab is shared out as its zones have room.
    """
    for budget in budgets:
        budget.clean = max(0, min(budget.image.clean_cache, budget.used, movable_share(host, budget)))
    for nid, pages in image.reclaimable_slab.items():
        mine = [budget for budget in budgets if budget.zone.nid == nid and budget.zone.type != ZONE_MOVABLE]
        rooms = [max(0, budget.used - movable_share(host, budget)) for budget in mine]
        left, total = min(pages, sum(rooms)), sum(rooms)
        for budget, room in zip(mine, rooms, strict=True):
            budget.slab = left * room // total if total else 0
            left, total = left - budget.slab, total - room


def adopt_cache(host: Host) -> None:
    """What was in the cache at import is the machine's own; files show changes from there."""
    for zone in host.zones:
        for use in (Use.PAGE_CACHE, Use.SLAB):
            raise_share(host, THE_MACHINE, zone.nid, use, pages_in_zone(host.mem, zone, use))
    host.carried["cached"] = {
        f"{zone.nid}/{zone.name}": {
            kind: pages_in_zone(host.mem, zone, use) for kind, use in KINDS.items() if use != Use.DIRTY_CACHE
        }
        for zone in host.zones
        if zone.present
    }
