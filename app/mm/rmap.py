"""Who owns a page: pointing mappings at the frames their pages moved to.

Source: mm/rmap.c, mm/migrate.c remove_migration_ptes() (5.14).
"""

import numpy as np

from app.mm.mmzone import Pfns
from app.mm.state import Host, HState, Task


def move_owner(host: Host, old: Pfns, new: Pfns) -> None:
    """Point the tasks that own the old pages at the new ones."""
    if old.size == 0:
        return
    where = dict(zip(old.tolist(), new.tolist(), strict=True))
    low, high = int(old[0]), int(old[-1])
    for task in host.tasks.values():
        if any(start <= high and start + n > low for start, n in task.runs):
            task.runs = _moved_runs(task, where)


def _moved_runs(task: Task, where: dict[int, int]) -> list[tuple[int, int]]:
    pfns = [where.get(p, p) for start, n in task.runs for p in range(start, start + n)]
    return to_runs(np.array(pfns, np.int64))


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
            pfns = np.concatenate([np.arange(start, start + n) for start, n in task.runs])
            task.runs = to_runs(pfns[pfns != pfn])


def disown_huge(host: Host, hs: HState, head: int) -> None:
    """Take a huge page away from its mapping: a later touch of it gets SIGBUS."""
    maps = [m for t in host.tasks.values() for m in t.maps.values()] + list(host.files.values())
    for mapping in (m for m in maps if m.order == hs.order):
        index = next((i for i, page in mapping.pages.items() if page == head), None)
        if index is not None:
            del mapping.pages[index]
            mapping.poisoned.add(index)
