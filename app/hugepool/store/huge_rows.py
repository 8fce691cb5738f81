"""Mappings of huge pages, hugetlbfs and cgroups as rows, and out of them."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Row as Found

from hugepool.mm.machine.cgroups import HugetlbCgroup, PageCharge, PageCounter
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile, Mount
from hugepool.mm.machine.resv_map import ResvMap
from hugepool.mm.machine.state import Host
from hugepool.store.packing import Packed, rows_of_dict, rows_of_set, rows_of_triples, set_of_rows, unpack

Row = dict[str, Any]
Key = tuple[Any, ...]
MAP_FIELDS = ("count", "shared", "noreserve", "file_id", "offset", "owner", "cgroup", "killed")
FILE_FIELDS = ("path", "mount", "size", "segment")
MOUNT_FIELDS = ("path", "max", "min", "used", "rsv")
CGROUP_FIELDS = ("parent", "path", "online")
CGROUP_COUNTS = ("pages", "pages_max", "pages_failcnt", "reservations", "reservations_max", "reservations_failcnt",
                 "events", "events_local")  # fmt: skip


def _pick(thing: Any, names: Sequence[str]) -> Row:
    return {name: getattr(thing, name) for name in names}


def _few(numbers: Collection[int]) -> Packed | None:
    """A set that is mostly empty."""
    return Packed(rows_of_set(numbers)) if numbers else None


def _set(blob: bytes | None) -> set[int]:
    return set() if blob is None else set_of_rows(unpack(blob))


def _regions(blob: bytes) -> ResvMap:
    return ResvMap([(first, end, cgroup) for first, end, cgroup in unpack(blob, 3).tolist()])


# -- into rows --------------------------------------------------------------------------------------------


def huge_maps(host: Host) -> Iterator[tuple[Key, Row]]:
    """Mappings by pid and number."""
    for pid, task in host.tasks.items():
        for map_id, mapping in task.maps.items():
            yield (
                (pid, map_id),
                {
                    **_pick(mapping, MAP_FIELDS),
                    "page_order": mapping.order,
                    "nr_touched": len(mapping.pages),
                    "nr_reserved": mapping.promised,
                    "pages": Packed(rows_of_dict(mapping.pages)),
                    "consumed": Packed(rows_of_triples(mapping.consumed.regions)),
                    "file_pages": _few(mapping.file_pages),
                    "gone": Packed(rows_of_set(mapping.gone)),
                    "poisoned": _few(mapping.poisoned),
                },
            )


def files(host: Host) -> Iterator[tuple[Key, Row]]:
    """Files by number."""
    for file in host.files.values():
        yield (
            (file.file_id,),
            {
                **_pick(file, FILE_FIELDS),
                "page_order": file.order,
                "nr_pages": len(file.pages),
                "nr_reserved": file.promised,
                "pages": Packed(rows_of_dict(file.pages)),
                "regions": Packed(rows_of_triples(file.resv.regions)),
                "poisoned": _few(file.poisoned),
            },
        )


def mounts(host: Host) -> Iterator[tuple[Key, Row]]:
    """Mounts by number."""
    for mount in host.mounts:
        yield (mount.mount_id,), {**_pick(mount, MOUNT_FIELDS), "page_order": mount.order}


def cgroups(host: Host) -> Iterator[tuple[Key, Row]]:
    """Folders by path."""
    for group in host.cgroups.values():
        yield (group.path,), {"cgroup_id": group.cgroup_id, "subtree_control": group.subtree_control}


def hugetlb_cgroups(host: Host) -> Iterator[tuple[Key, Row]]:
    """What the controller counts for, by number."""
    for group in host.hugetlb_cgroups.values():
        yield (group.cgroup_id,), _pick(group, CGROUP_FIELDS)


def hugetlb_cgroup_sizes(host: Host) -> Iterator[tuple[Key, Row]]:
    """The controller's counts by cgroup and huge page size."""
    for group in host.hugetlb_cgroups.values():
        for order, pages in group.pages.items():
            of = group.reservations[order]
            counts = (pages.usage, pages.max, pages.failcnt, of.usage, of.max, of.failcnt, group.events[order],
                      group.events_local[order])  # fmt: skip
            yield (group.cgroup_id, order), dict(zip(CGROUP_COUNTS, counts, strict=True))


def page_charges(host: Host) -> Iterator[tuple[Key, Row]]:
    """Pages by who pays for them."""
    of_charge: dict[PageCharge, list[int]] = {}
    for head, charge in host.page_charges.items():
        of_charge.setdefault(charge, []).append(head)
    for charge, heads in of_charge.items():
        key = (charge.pages, charge.reservations, charge.mount)
        yield key, {"nr_pages": len(heads), "heads": Packed(rows_of_set(heads))}


# -- out of rows ------------------------------------------------------------------------------------------


def huge_map_of(row: Found[Any]) -> HugeMap:
    """A mapping."""
    return HugeMap(
        row.map_id,
        row.page_order,
        pages=dict(unpack(row.pages).tolist()),
        consumed=_regions(row.consumed),
        file_pages=_set(row.file_pages),
        gone=_set(row.gone),
        poisoned=_set(row.poisoned),
        **_pick(row, MAP_FIELDS),
    )


def file_of(row: Found[Any]) -> HugetlbFile:
    """A file."""
    return HugetlbFile(
        row.file_id,
        row.page_order,
        pages=dict(unpack(row.pages).tolist()),
        resv=_regions(row.regions),
        poisoned=_set(row.poisoned),
        **_pick(row, FILE_FIELDS),
    )


def mount_of(row: Found[Any]) -> Mount:
    """A mount."""
    return Mount(row.mount_id, order=row.page_order, **_pick(row, MOUNT_FIELDS))


def hugetlb_cgroups_of(rows: Sequence[Found[Any]], sizes: Sequence[Found[Any]]) -> dict[int, HugetlbCgroup]:
    """The controller's state by number."""
    groups = {row.cgroup_id: HugetlbCgroup(row.cgroup_id, **_pick(row, CGROUP_FIELDS)) for row in rows}
    for row in sizes:
        group, order = groups[row.cgroup_id], row.page_order
        pages, pages_max, pages_failcnt, *of, events, events_local = _pick(row, CGROUP_COUNTS).values()
        group.pages[order] = PageCounter(pages, pages_max, pages_failcnt)
        group.reservations[order] = PageCounter(*of)
        group.events[order], group.events_local[order] = events, events_local
    return groups


def page_charges_of(rows: Sequence[Found[Any]]) -> dict[int, PageCharge]:
    """Who pays for which page."""
    return {
        head: charge
        for row in rows
        for charge in [PageCharge(row.pages, row.reservations, row.mount)]
        for head in _set(row.heads)
    }
