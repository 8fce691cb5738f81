"""Promising huge pages to mappings and files at mmap, and taking the promise back.

Source: mm/hugetlb.c hugetlb_reserve_pages(), hugetlb_unreserve_pages(), hugetlb_vm_op_close() (5.14, 6.1, 6.12).
"""

from dataclasses import dataclass

from hugepool.mm.kernel import hugetlb_cgroup
from hugepool.mm.kernel.hugetlb_reserve import Policy, acct_memory, return_unused_surplus_pages
from hugepool.mm.kernel.hugetlb_subpool import get_pages, mount_of, put_pages, refund
from hugepool.mm.machine.cgroups import ROOT
from hugepool.mm.machine.errors import NoHugePage
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for huge pages: where they may come from, and the cgroup that is charged."""

    policy: Policy
    cgroup: int = ROOT


def charge_or_refuse(host: Host, cgroup: int, kind: hugetlb_cgroup.Kind, hs: HState, pages: int) -> None:
    """Charge pages or reservations to a cgroup.  Raises NoHugePage at a limit."""
    refused_by = hugetlb_cgroup.try_charge(host, cgroup, kind, hs, pages)
    if refused_by is not None:
        count = hugetlb_cgroup.counter(refused_by, kind, hs.order)
        word = "max" if kind == "pages" else "rsvd.max"
        raise NoHugePage(Reason.CGROUP_LIMIT, cgroup=refused_by.path, file=f"hugetlb.{hs.cgroup_name}.{word}",
                         limit=count.max, charged=count.usage)  # fmt: skip


def reserve_pages(
    host: Host,
    call: Call,
    asker: Asker,
    mapping: HugeMap | None,
    file: HugetlbFile | None,
    first: int,
    end: int,
) -> None:
    """Promise pages ``first`` .. ``end`` (excluded) of a file, or as many to a private mapping.

    ``mapping`` is None for a SysV segment, which is reserved as it is made.

    Raises:
        NoHugePage: the cgroup, the mount or the pool has no room; what the kernel leaves behind stays.
    """
    private = mapping is not None and not mapping.shared
    hs = host.hstates[mapping.order if mapping is not None else file.order]  # type: ignore[union-attr]
    pages = end - first if private or file is None else end - first - file.resv.pages(first, end)
    charge_or_refuse(host, asker.cgroup, "reservations", hs, pages)
    try:
        _promise(host, call, hs, asker.policy, file.mount if file is not None else 0, pages)
    except NoHugePage:
        hugetlb_cgroup.uncharge(host, asker.cgroup, "reservations", hs.order, pages)
        raise
    if private and mapping is not None:
        mapping.owner, mapping.cgroup = True, asker.cgroup
    elif file is not None:
        file.resv.add(first, end, asker.cgroup)


def _promise(host: Host, call: Call, hs: HState, policy: Policy, mount_id: int, pages: int) -> None:
    """Take a promise from the mount's minimum, then from the pool."""
    mount = mount_of(host, mount_id)
    left = mount.rsv if mount is not None else 0
    from_pool = get_pages(mount, pages)
    if not acct_memory(host, call, hs, from_pool, policy):
        refund(host, hs, mount, pages, left)
        raise NoHugePage(Reason.POOL_EXHAUSTED)


def unreserve_pages(host: Host, call: Call, file: HugetlbFile, first: int, end: int, freed: int) -> None:
    """Take pages ``first`` .. ``end`` out of a file's reserve map, ``freed`` of which were there and are freed.

    Source: mm/hugetlb.c hugetlb_unreserve_pages() (5.14).
    """
    gone = file.resv.remove(first, end)
    for cgroup, pages in gone.items():
        hugetlb_cgroup.uncharge(host, cgroup, "reservations", file.order, pages)
    _drop(host, call, host.hstates[file.order], file.mount, gone.total() - freed)


def close_range(host: Host, call: Call, mapping: HugeMap, first: int, end: int) -> None:
    """A private mapping or a part of it goes: the promises it has not used end, and their charges.

    Source: mm/hugetlb.c hugetlb_vm_op_close() (5.14).
    """
    if not mapping.owner:
        return
    live = end - first - sum(first <= index < end for index in mapping.gone)
    unused = end - first - mapping.consumed.pages(first, end)
    hugetlb_cgroup.uncharge(host, mapping.cgroup, "reservations", mapping.order, live)
    mapping.consumed.add(first, end)
    file = host.files[mapping.file_id] if mapping.file_id is not None else None
    _drop(host, call, host.hstates[mapping.order], file.mount if file is not None else 0, unused)


def _drop(host: Host, call: Call, hs: HState, mount_id: int, promises: int) -> None:
    """Promises end: those that fill up the mount's minimum stay reserved."""
    if promises:
        to_drop = put_pages(mount_of(host, mount_id), promises)
        if to_drop:
            return_unused_surplus_pages(host, call, hs, to_drop)


def needs_reservation(mapping: HugeMap, file: HugetlbFile | None, index: int) -> bool:
    """Whether nothing is promised for a page of a mapping.

    A file's map lists what is promised or there; an owner's lists what is used up.
    Source: mm/hugetlb.c __vma_reservation_common() (5.14).
    """
    if mapping.shared and file is not None:
        return mapping.offset + index not in file.resv
    return not mapping.owner or index in mapping.consumed


def commit_reservation(mapping: HugeMap, file: HugetlbFile | None, index: int) -> None:
    """A page of a mapping was allocated: of a file it is in the map from now on, an owner's promise is used up."""
    if mapping.shared and file is not None:
        at = mapping.offset + index
        file.resv.add(at, at + 1)
    elif mapping.owner:
        mapping.consumed.add(index, index + 1)
