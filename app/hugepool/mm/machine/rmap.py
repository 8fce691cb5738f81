"""Who owns a page: pointing mappings at the frames their pages moved to.

Source: mm/rmap.c, mm/migrate.c remove_migration_ptes() (5.14).
"""

import numpy as np

from hugepool.mm.machine.mmzone import Pfns
from hugepool.mm.machine.state import Host, HState


def move_owner(host: Host, old: Pfns, new: Pfns) -> None:
    """Point the tasks that own the old pages (rising) at the new ones."""
    if old.size == 0:
        return
    low, high = int(old[0]), int(old[-1])
    for task in host.tasks.values():
        if any(start <= high and start + n > low for start, n in task.runs):
            pfns = from_runs(task.runs)
            at = np.minimum(np.searchsorted(old, pfns), old.size - 1)
            task.runs = to_runs(np.where(old[at] == pfns, new[at], pfns))


def from_runs(runs: list[tuple[int, int]]) -> Pfns:
    """The pfns of (first, count) rows, in order."""
    if not runs:
        return np.empty(0, np.int64)
    starts, lengths = np.array(runs, np.int64).T
    begins = np.cumsum(lengths) - lengths
    return np.repeat(starts - begins, lengths) + np.arange(int(lengths.sum()))


def to_runs(pfns: Pfns) -> list[tuple[int, int]]:
    """Pfns in order as (first, count) rows."""
    if pfns.size == 0:
        return []
    cut = np.flatnonzero(np.diff(pfns) != 1) + 1
    starts = np.concatenate(([0], cut))
    lengths = np.diff(np.append(starts, pfns.size))
    return list(zip(pfns[starts].tolist(), lengths.tolist(), strict=True))


def move_huge_owner(host: Host, hs: HState, head: int, target: int) -> None:
    """Point the mapping that owns a huge page at another one."""
    maps = [m for t in host.tasks.values() for m in t.maps.values()] + list(host.files.values())
    for mapping in (m for m in maps if m.order == hs.order):
        for index, page in mapping.pages.items():
            if page == head:
                mapping.pages[index] = target
                return


def disown(host: Host, pfn: int) -> None:
    """Take a page away from the task that has it."""
    for task in host.tasks.values():
        if any(start <= pfn < start + n for start, n in task.runs):
            pfns = from_runs(task.runs)
            task.runs = to_runs(pfns[pfns != pfn])


def disown_huge(host: Host, hs: HState, head: int) -> None:
    """Take a huge page away from its mapping: a later touch of it gets SIGBUS."""
    maps = [m for t in host.tasks.values() for m in t.maps.values()] + list(host.files.values())
    for mapping in (m for m in maps if m.order == hs.order):
        index = next((i for i, page in mapping.pages.items() if page == head), None)
        if index is not None:
            del mapping.pages[index]
            mapping.poisoned.add(index)
