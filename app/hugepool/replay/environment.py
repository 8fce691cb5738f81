"""What a replay takes from its recording: where a zone came to rest when it was filled.

A balloon grows until little is left, and refills of a CPU's lists decide by how much it overshoots; a pool that grows
until nothing is left ends on one side of a watermark or the other by what lay on lists before.  Where a recording came
to rest is a condition of the steps that follow, not an answer: the model is put into it.
"""

from typing import Any

import numpy as np

from hugepool.mm.commands.task import KINDS
from hugepool.mm.kernel.buddy import take_pages
from hugepool.mm.kernel.pcp import flush_to_buddy, keep_on_lists
from hugepool.mm.machine.mmzone import Pfns, Use, Zone
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Host, Task
from hugepool.mm.machine.units import PAGEBLOCK_PAGES


def settle_zones(host: Host, pid: int, kind: str, zones: dict[str, Any]) -> int:
    """Give zones that a balloon filled the recorded free pages and pages on lists; the pages that it took more."""
    task, more = host.tasks[pid], 0
    for zone in host.zones:
        recorded = zones.get(f"{zone.nid}/{zone.name}")
        if recorded is None or not zone.present:
            continue
        if zone.nr_pcp > recorded["pcp"]:
            flush_to_buddy(host, zone, zone.nr_pcp - recorded["pcp"])
        if zone.nr_pcp < recorded["pcp"]:
            keep_on_lists(host, zone, recorded["pcp"] - zone.nr_pcp)
        more += _balloon(host, task, kind, zone, zone.nr_free - recorded["free"])
    return more


def settle_lists(host: Host, zones: dict[str, Any]) -> None:
    """Split what zones have free between the buddy and the lists as recorded.

    A growth until nothing is left ends on one side of a watermark or the other by what lay on lists long before.
    """
    for zone in host.zones:
        recorded = zones.get(f"{zone.nid}/{zone.name}")
        if recorded is None or not zone.present:
            continue
        missing = recorded["free"] - zone.nr_free
        if missing > 0:
            flush_to_buddy(host, zone, min(missing, zone.nr_pcp))
        elif missing < 0:
            keep_on_lists(host, zone, -missing)


def _balloon(host: Host, task: Task, kind: str, zone: Zone, pages: int) -> int:
    """Take so many pages of a zone for a task, or give as many back; how many it has more."""
    use, mt, _highest = KINDS[kind]
    if pages > 0:
        got = take_pages(host.mem, zone, pages, mt, use)
        task.runs.extend(to_runs(got))
        return int(got.size)
    held = from_runs(task.runs)
    mine = held[_of(host, zone, held, use)][pages:] if pages else held[:0]
    host.mem.assign_pages(mine, Use.BUDDY)
    task.runs = to_runs(held[~np.isin(held, mine)])
    return -int(mine.size)


def _of(host: Host, zone: Zone, pfns: Pfns, use: Use) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mine = host.mem.zone[pfns // PAGEBLOCK_PAGES] == zone.id
    return np.asarray(mine & (host.mem.uses_of(pfns) == use))
