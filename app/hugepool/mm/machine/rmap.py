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


def users_of(host: Host, heads: set[int]) -> Iterator[int]:
    """Pids of the tasks that have some of the huge pages: as their own, or in the part of a file that they map."""
    in_files = {
        number: [index for index, head in file.pages.items() if head in heads]
        for number, file in host.files.items()
    }
    for task in host.tasks.values():
        if any(_has(mapping, heads, in_files) for mapping in task.maps.values()):
            yield task.pid


def _has(mapping: HugeMap, heads: set[int], in_files: dict[int, list[int]]) -> bool:
    if mapping.file_id is not None:
        end = mapping.offset + mapping.count
        mapped = (index for index in in_files[mapping.file_id] if mapping.offset <= index < end)
        if any(mapping.shared or index - mapping.offset in mapping.file_pages for index in mapped):
            return True
    return not heads.isdisjoint(mapping.pages.values())


def files_of(host: Host, heads: set[int]) -> list[str]:
    """Paths of the files that have some of the huge pages."""
    having = (file for file in host.files.values() if not heads.isdisjoint(file.pages.values()))
    return sorted(file.path for file in having if file.path is not None)


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
