"""Who owns a page: pointing mappings at the frames their pages moved to.

Source: mm/rmap.c, mm/migrate.c remove_migration_ptes() (5.14).
"""

from collections.abc import Iterator

import numpy as np

from hugepool.mm.machine.mappings import HugeMap, HugetlbFile
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


def huge_holders(host: Host, hs: HState) -> Iterator[HugeMap | HugetlbFile]:
    """Mappings and files of a huge page size: what can have pages."""
    for task in host.tasks.values():
        yield from (mapping for mapping in task.maps.values() if mapping.order == hs.order)
    yield from (file for file in host.files.values() if file.order == hs.order)


def move_huge_owner(host: Host, hs: HState, head: int, target: int) -> None:
    """Point all that have a huge page at another one, whose charges move along."""
    for holder in huge_holders(host, hs):
        for index, page in holder.pages.items():
            if page == head:
                holder.pages[index] = target
                break
    if head in host.mapcounts:
        host.mapcounts[target] = host.mapcounts.pop(head)
    if head in host.page_charges:
        host.page_charges[target] = host.page_charges.pop(head)


def disown(host: Host, pfn: int) -> None:
    """Take a page away from the task that has it."""
    for task in host.tasks.values():
        if any(start <= pfn < start + n for start, n in task.runs):
            pfns = from_runs(task.runs)
            task.runs = to_runs(pfns[pfns != pfn])


def disown_huge(host: Host, hs: HState, head: int) -> list[tuple[HugetlbFile, int]]:
    """Take a huge page away from all that have it: a later touch of it gets SIGBUS.  A file that had it, and where."""
    files = []
    for holder in huge_holders(host, hs):
        index = next((i for i, page in holder.pages.items() if page == head), None)
        if index is not None:
            del holder.pages[index]
            holder.poisoned.add(index)
            if isinstance(holder, HugetlbFile):
                files.append((holder, index))
    host.mapcounts.pop(head, None)
    return files
