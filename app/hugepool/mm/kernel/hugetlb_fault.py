"""A process touches its huge pages: page faults, copy-on-write, and taking mappings away.

Source: mm/hugetlb.c alloc_huge_page(), hugetlb_no_page(), hugetlb_cow() / hugetlb_wp(), unmap_ref_private(),
__unmap_hugepage_range(), copy_hugetlb_page_range() (5.14, 6.1, 6.12).
"""

from collections.abc import Iterator
from dataclasses import replace

from hugepool.mm.kernel import hugetlb_cgroup
from hugepool.mm.kernel.hugetlb_page import dequeue
from hugepool.mm.kernel.hugetlb_reserve import Policy, alloc_surplus_pages, count_hugetlb, free_huge_page
from hugepool.mm.kernel.hugetlb_resv_map import (
    Asker,
    charge_or_refuse,
    commit_reservation,
    needs_reservation,
)
from hugepool.mm.kernel.hugetlb_subpool import get_pages, mount_of, refund
from hugepool.mm.machine.cgroups import ROOT, PageCharge
from hugepool.mm.machine.errors import NoHugePage
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState, Task


def file_of(host: Host, mapping: HugeMap) -> HugetlbFile | None:
    """The file behind a mapping."""
    return host.files[mapping.file_id] if mapping.file_id is not None else None


# -- a page -----------------------------------------------------------------------------------------------


def alloc_huge_page(
    host: Host, call: Call, asker: Asker, mapping: HugeMap, index: int, *, outside_reserve: bool = False
) -> int:
    """A huge page for a page of a mapping, charged and counted.

    ``outside_reserve``: an owner copies a page that it shares, whose promise is used up.

    Raises:
        NoHugePage: the mount, the cgroup or the pool refuses.
    Source: mm/hugetlb.c alloc_huge_page() (5.14, 6.1), alloc_hugetlb_folio() (6.12).
    """
    hs, file = host.hstates[mapping.order], file_of(host, mapping)
    mount = mount_of(host, file.mount) if file is not None else None
    unpromised = outside_reserve or needs_reservation(mapping, file, index)
    left = mount.rsv if mount is not None else 0
    from_pool = get_pages(mount, 1) if unpromised else 0
    if outside_reserve and host.profile.copies_avoid_minimum:
        from_pool = 1
    charged = False
    try:
        charge = _charge(host, asker.cgroup, hs, unpromised=unpromised)
        charged = True
        head, reserved = _page(host, call, hs, asker.policy, mapping, from_minimum=from_pool == 0)
    except NoHugePage:
        if charged:
            _uncharge(host, charge, hs)
        if unpromised:
            refund(host, hs, mount, 1, left)
        raise
    hs.resv_huge_pages -= reserved
    if unpromised and mount is not None:
        hs.resv_drift += left - mount.rsv - reserved  # taken from the minimum, but still counted as reserved
    hugetlb_cgroup.commit_charge(
        host, head, replace(charge, mount=mount.mount_id if mount is not None else 0)
    )
    commit_reservation(mapping, file, index)
    count_hugetlb(host, hs, head, +1)
    return head


def _charge(host: Host, cgroup: int, hs: HState, *, unpromised: bool) -> PageCharge:
    """Charge a page, and its reservation where it has none yet."""
    if unpromised:
        charge_or_refuse(host, cgroup, "reservations", hs, 1)
    try:
        charge_or_refuse(host, cgroup, "pages", hs, 1)
    except NoHugePage:
        if unpromised:
            hugetlb_cgroup.uncharge(host, cgroup, "reservations", hs.order, 1)
        raise
    return PageCharge(cgroup, cgroup if unpromised else ROOT)


def _uncharge(host: Host, charge: PageCharge, hs: HState) -> None:
    hugetlb_cgroup.uncharge(host, charge.pages, "pages", hs.order, 1)
    if charge.reservations != ROOT:
        hugetlb_cgroup.uncharge(host, charge.reservations, "reservations", hs.order, 1)


def _page(
    host: Host, call: Call, hs: HState, policy: Policy, mapping: HugeMap, *, from_minimum: bool
) -> tuple[int, int]:
    """A free page of the pool, else a surplus one; and how many reservations it uses up (0 or 1).

    ``from_minimum``: a page is promised, by the map or by the mount's minimum.  A mapping that is neither shared nor
    an owner's may not use a promise.
    """
    entitled = mapping.shared or mapping.owner or host.profile.exact_promises
    reserved = int(from_minimum and entitled)
    if reserved or hs.available:
        for nid in policy.order:
            if hs.free_node[nid]:
                return int(dequeue(host, hs, nid, 1)[0]), reserved
    fresh = alloc_surplus_pages(host, call, hs, policy, 1)
    if not fresh.size:
        raise NoHugePage(Reason.POOL_EXHAUSTED, free=hs.free_huge_pages, reserved=hs.resv_huge_pages)
    return int(fresh[0]), reserved


# -- faults -----------------------------------------------------------------------------------------------


def read_fault(host: Host, call: Call, asker: Asker, task: Task, mapping: HugeMap, index: int) -> None:
    """A task reads a page of a mapping.

    Raises:
        NoHugePage: the task gets SIGBUS.
    """
    file = file_of(host, mapping)
    if index in mapping.pages or index in mapping.file_pages:
        return
    if _no_page(host, call, asker, task, mapping, index) and file is not None and not mapping.shared:
        mapping.file_pages.add(index)


def write_fault(host: Host, call: Call, asker: Asker, task: Task, mapping: HugeMap, index: int) -> None:
    """A task writes a page of a mapping: a private page that others share is copied first.

    Raises:
        NoHugePage: the task gets SIGBUS.
    """
    if index not in mapping.pages:
        read_fault(host, call, asker, task, mapping, index)
    if mapping.shared:
        return
    if index in mapping.file_pages:
        mapping.pages[index] = alloc_huge_page(host, call, asker, mapping, index)
        mapping.file_pages.discard(index)
    elif host.mapcounts.get(mapping.pages[index], 1) > 1:
        _copy_shared(host, call, asker, mapping, index)


def _no_page(host: Host, call: Call, asker: Asker, task: Task, mapping: HugeMap, index: int) -> bool:
    """Nothing is mapped at a page: find the file's page (True), or allocate one."""
    file = file_of(host, mapping)
    if index in mapping.poisoned or (file is not None and mapping.offset + index in file.poisoned):
        raise NoHugePage(Reason.POISONED_PAGE)
    if mapping.killed:
        call.printk(f"PID {task.pid} killed due to inadequate hugepage pool")
        raise NoHugePage(Reason.TAKEN_BY_PARENT)
    if file is None:
        mapping.pages[index] = alloc_huge_page(host, call, asker, mapping, index)
        return False
    at = mapping.offset + index
    there = at in file.pages
    if at >= file.size and (not there or host.profile.fault_asks_size_first):
        raise NoHugePage(Reason.BEYOND_END_OF_FILE, size=file.size)
    if there:
        return True
    head = alloc_huge_page(host, call, asker, mapping, index)
    (file.pages if mapping.shared else mapping.pages)[at if mapping.shared else index] = head
    return False


def _copy_shared(host: Host, call: Call, asker: Asker, mapping: HugeMap, index: int) -> None:
    """Copy a private page that others map, too.

    An owner that gets no page takes the mapping of the old one away from the others, and needs no copy.
    """
    old = mapping.pages[index]
    try:
        new = alloc_huge_page(host, call, asker, mapping, index, outside_reserve=mapping.owner)
    except NoHugePage:
        if not mapping.owner:
            raise
        _unmap_ref_private(host, call, mapping, index)
        if host.mapcounts.get(old, 1) > 1:
            raise
        return
    mapping.pages[index] = new
    drop_mapping(host, call, host.hstates[mapping.order], old)


def _unmap_ref_private(host: Host, call: Call, owner: HugeMap, index: int) -> None:
    """Take the page of an owner away from the mappings that fork made of it; their next fault is a SIGBUS."""
    head = owner.pages[index]
    for task in host.tasks.values():
        for mapping in task.maps.values():
            if mapping is not owner and not mapping.owner and mapping.pages.get(index) == head:
                del mapping.pages[index]
                mapping.killed = True
                drop_mapping(host, call, host.hstates[owner.order], head)
                call.emit(Event.HUGE_PAGE_TAKEN_FROM_CHILD, pid=task.pid, map=mapping.map_id, page=index)


# -- fork and unmap ---------------------------------------------------------------------------------------


def fork_mapping(host: Host, mapping: HugeMap) -> HugeMap:
    """The mapping as a child has it: the same pages, shared until written; no promise of a private one is the child's.

    Source: mm/hugetlb.c copy_hugetlb_page_range(), hugetlb_vm_op_open(), reset_vma_resv_huge_pages() (5.14).
    """
    for head in mapping.pages.values():
        host.mapcounts[head] = host.mapcounts.get(head, 1) + 1
    return replace(mapping, owner=False, cgroup=ROOT, killed=False, pages=dict(mapping.pages),
                   consumed=type(mapping.consumed)(), file_pages=set(mapping.file_pages), gone=set(mapping.gone),
                   poisoned=set(mapping.poisoned))  # fmt: skip


def drop_mapping(host: Host, call: Call, hs: HState, head: int, *, promised: bool = False) -> bool:
    """One mapping of a private page goes; True when it was the last and the page is freed.

    ``promised``: a page that is freed stays reserved, for whoever mapped it.
    """
    mapped = host.mapcounts.pop(head, 1) - 1
    if mapped > 1:
        host.mapcounts[head] = mapped
    if mapped:
        return False
    free_huge_page(host, call, hs, head, promised=promised)
    return True


def zap_range(host: Host, call: Call, mapping: HugeMap, first: int, end: int) -> int:
    """Unmap pages ``first`` .. ``end`` (excluded) of a mapping; how many of its own are freed.

    From 6.9 on an owner gets the promise of a freed page back, unless there are surplus pages.
    Source: mm/hugetlb.c __unmap_hugepage_range() (5.14, 6.12).
    """
    hs = host.hstates[mapping.order]
    indices = [index for index in sorted(mapping.pages) if first <= index < end]
    mapping.file_pages -= set(range(first, end)) if mapping.file_pages else set()
    promised = host.profile.unmap_restores_promises and mapping.owner and not hs.surplus_huge_pages
    freed = [i for i in indices if drop_mapping(host, call, hs, mapping.pages.pop(i), promised=promised)]
    for index in freed if promised else ():
        mapping.consumed.remove(index, index + 1)
    return len(freed)


def mappings_of(host: Host, file: HugetlbFile) -> Iterator[HugeMap]:
    """All mappings of a file."""
    maps = (mapping for task in host.tasks.values() for mapping in task.maps.values())
    return (mapping for mapping in maps if mapping.file_id == file.file_id)
