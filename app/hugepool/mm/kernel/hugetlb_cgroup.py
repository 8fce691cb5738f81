"""The hugetlb controller: charging huge pages and reservations to cgroups, with limits at every level.

Source: mm/hugetlb_cgroup.c __hugetlb_cgroup_charge_cgroup(), hugetlb_cgroup_uncharge_folio(),
hugetlb_cgroup_css_offline(); mm/page_counter.c (5.14, 6.1, 6.12).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from hugepool.mm.machine.cgroups import ROOT, HugetlbCgroup, PageCharge, PageCounter
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import BlockFlag
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M

Kind = Literal["pages", "reservations"]
KINDS: tuple[Kind, Kind] = ("pages", "reservations")


def lineage(host: Host, cgroup: int) -> Iterator[HugetlbCgroup]:
    """A cgroup's controller state and that of all above it, but for the root."""
    while cgroup != ROOT:
        found = host.hugetlb_cgroups[cgroup]
        yield found
        cgroup = found.parent


def counter(group: HugetlbCgroup, kind: Kind, order: int) -> PageCounter:
    """The count of a kind for a huge page size."""
    counters: dict[int, PageCounter] = getattr(group, kind)
    return counters[order]


def try_charge(host: Host, cgroup: int, kind: Kind, hs: HState, pages: int) -> HugetlbCgroup | None:
    """Charge a cgroup and all above it; the one whose limit refuses, and then nothing is charged.

    A refusal is an event of the cgroup that asked, and counts in ``events`` of those above it.
    """
    charged: list[PageCounter] = []
    for group in lineage(host, cgroup):
        count = counter(group, kind, hs.order)
        if count.max is not None and count.usage + pages > count.max:
            count.failcnt += 1
            for other in charged:
                other.usage -= pages
            _count_event(host, cgroup, hs.order)
            return group
        count.usage += pages
        charged.append(count)
    return None


def _count_event(host: Host, cgroup: int, order: int) -> None:
    host.hugetlb_cgroups[cgroup].events_local[order] += 1
    for group in lineage(host, cgroup):
        group.events[order] += 1


def uncharge(host: Host, cgroup: int, kind: Kind, order: int, pages: int) -> None:
    """Take a charge back.  A removed cgroup goes with the last one."""
    for group in lineage(host, cgroup):
        counter(group, kind, order).usage -= pages
    _drop_unused(host, cgroup)


def _drop_unused(host: Host, cgroup: int) -> None:
    """Forget removed cgroups that nothing is charged to any more."""
    while cgroup != ROOT:
        group = host.hugetlb_cgroups[cgroup]
        charged = any(c.usage for kind in KINDS for c in getattr(group, kind).values())
        if group.online or charged or any(g.parent == cgroup for g in host.hugetlb_cgroups.values()):
            return
        del host.hugetlb_cgroups[cgroup]
        cgroup = group.parent


# -- huge pages -------------------------------------------------------------------------------------------


def commit_charge(host: Host, head: int, charge: PageCharge) -> None:
    """Remember who pays for a huge page that was charged."""
    if charge != PageCharge():
        host.page_charges[head] = charge


def uncharge_page(host: Host, hs: HState, head: int) -> PageCharge:
    """Take back what a huge page is charged with as it is freed; what that was."""
    charge = host.page_charges.pop(head, PageCharge())
    if charge.pages != ROOT:
        uncharge(host, charge.pages, "pages", hs.order, 1)
    if charge.reservations != ROOT:
        uncharge(host, charge.reservations, "reservations", hs.order, 1)
    return charge


# -- limits, birth and death ------------------------------------------------------------------------------


def set_limit(group: HugetlbCgroup, kind: Kind, order: int, limit: int | None) -> None:
    """Set a limit in huge pages, None for ``max``.  Raises EBUSY when more is charged already; nothing changes.

    Source: mm/page_counter.c page_counter_set_max() (5.14).
    """
    count = counter(group, kind, order)
    if limit is not None and count.usage > limit:
        raise MMError("EBUSY", f"{count.usage} huge pages are charged to {group.path!r}: more than {limit}",
                      reason=Reason.CGROUP_IN_USE, pages_charged=count.usage)  # fmt: skip
    count.max = limit


def css_online(host: Host, parent: int, path: str) -> int:
    """Begin to count for a cgroup; the number of its controller state."""
    number = host.next_cgroup_id
    host.next_cgroup_id += 1
    host.hugetlb_cgroups[number] = HugetlbCgroup(
        number,
        parent,
        path,
        pages={order: PageCounter() for order in host.hstates},
        reservations={order: PageCounter() for order in host.hstates},
        events=dict.fromkeys(host.hstates, 0),
        events_local=dict.fromkeys(host.hstates, 0),
    )
    return number


def css_offline(host: Host, cgroup: int) -> None:
    """Stop counting for a cgroup: its pages go to the parent, its reservations stay charged until they are given back.

    Source: mm/hugetlb_cgroup.c hugetlb_cgroup_css_offline(), hugetlb_cgroup_move_parent() (5.14).
    """
    group = host.hugetlb_cgroups[cgroup]
    group.online = False
    for head, charge in list(host.page_charges.items()):
        if charge.pages == cgroup:
            counter(group, "pages", order_at(host, head)).usage -= 1
            moved = replace(charge, pages=group.parent)
            host.page_charges.pop(head)
            commit_charge(host, head, moved)
    _drop_unused(host, cgroup)


def order_at(host: Host, head: int) -> int:
    """The order of a huge page."""
    return ORDER_1G if host.mem.flags[head] & BlockFlag.GIGANTIC else ORDER_2M
