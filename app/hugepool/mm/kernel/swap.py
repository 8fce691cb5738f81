"""Swap: anonymous memory that is moved out when there is no page cache left to give up.

The oldest tasks lose their oldest pages first.  Locked and pinned pages stay.

Source: mm/vmscan.c shrink_page_list(), mm/swapfile.c get_swap_pages() (5.14).
Not modelled: pages that come back in when a program touches them; swap that an imported machine has.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from hugepool.mm.machine.mmzone import Mask, Pfns, Use, Zone
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Host, Task
from hugepool.mm.machine.units import PAGEBLOCK_PAGES


def used(host: Host) -> int:
    """Pages that are in swap."""
    return sum(task.swapped for task in host.tasks.values())


def swappable(host: Host, zones: Sequence[Zone]) -> int:
    """Pages of some zones that could be moved out now."""
    slots = host.swap_pages - used(host)
    if slots <= 0:
        return 0
    return min(slots, sum(int(mask.sum()) for _, _, mask in _candidates(host, zones)))


def swap_out(host: Host, zone: Zone, count: int) -> int:
    """Move up to ``count`` pages of a zone out; how many."""
    left = min(count, host.swap_pages - used(host))
    done = 0
    for task, pfns, mask in _candidates(host, [zone]):
        if done >= left:
            break
        gone = np.flatnonzero(mask)[: left - done]
        host.mem.assign_pages(pfns[gone], Use.BUDDY)
        task.runs = to_runs(np.delete(pfns, gone))
        task.swapped += int(gone.size)
        done += int(gone.size)
    host.count("pswpout", done)
    return done


def _candidates(host: Host, zones: Sequence[Zone]) -> Iterator[tuple[Task, Pfns, Mask]]:
    """Tasks with pages that may be moved out: all their pages, and which ones may."""
    wanted = [zone.id for zone in zones]
    for task in list(host.tasks.values()):
        if task.runs and not task.mlock and task.kind != "kernel":
            pfns = from_runs(task.runs)
            mask = np.isin(host.mem.zone[pfns // PAGEBLOCK_PAGES], wanted)
            yield task, pfns, mask & (host.mem.uses_of(pfns) == Use.ANON)
