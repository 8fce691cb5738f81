"""Laws of huge pages in use: who has them, what is promised, and who is charged for it.  Part of ``check``."""

from collections import Counter
from collections.abc import Iterator

from hugepool.mm.kernel import cgroup, hugetlb_cgroup
from hugepool.mm.machine.cgroups import ROOT
from hugepool.mm.machine.mappings import HugeMap, Mount
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

Charged = Counter[tuple[str, int, int]]  # (kind, cgroup, order) -> huge pages


def owners(host: Host) -> list[str]:
    """Every huge page in use belongs to one file, or to private mappings that share it since a fork."""
    out = []
    for hs in host.hstates.values():
        private = Counter(head for m in _maps(host) if m.order == hs.order for head in m.pages.values())
        of_files = [head for f in host.files.values() if f.order == hs.order for head in f.pages.values()]
        used = hs.nr_huge_pages - hs.free_huge_pages
        owned = len(private) + len(of_files)
        if owned != used or len(private.keys() | set(of_files)) != owned:
            out.append(f"{hs.size}: {used} pages in use, {owned} owned")
        for head, mapped in private.items():
            if host.mapcounts.get(head, 1) != mapped:
                out.append(
                    f"{hs.size} page at {head * PAGEBLOCK_PAGES}: mapped {mapped} times, "
                    f"counted {host.mapcounts.get(head, 1)}"
                )
    mapped_more = sum(1 for count in Counter(_private_pages(host)).values() if count > 1)
    return out if mapped_more == len(host.mapcounts) else [*out, "a page that is gone is counted as shared"]


def promises(host: Host) -> list[str]:
    """Every reservation belongs to a mapping, a file or a mount's minimum, but for what a known defect left behind."""
    out = []
    for hs in host.hstates.values():
        held = sum(m.promised for m in _maps(host) if m.order == hs.order)
        held += sum(f.promised for f in host.files.values() if f.order == hs.order)
        held += sum(mount.rsv for mount in host.mounts if mount.order == hs.order)
        if held + hs.resv_drift != hs.resv_huge_pages:
            out.append(
                f"{hs.size}: {hs.resv_huge_pages} reserved, {held} promised, {hs.resv_drift} by known defects"
            )
    return out


def mounts(host: Host) -> list[str]:
    """What counts for a mount's size equals its files' pages and promises, and private pages and promises on them."""
    out = []
    for mount in host.mounts:
        used = _used(host, mount)
        if mount.max != -1 and mount.used != used:
            out.append(f"{mount.path}: used is {mount.used}, recounted {used}")
        if not 0 <= mount.rsv <= max(0, mount.min):
            out.append(f"{mount.path}: {mount.rsv} of a minimum of {mount.min} are reserved")
    return out


def _used(host: Host, mount: Mount) -> int:
    files = {f.file_id: f for f in host.files.values() if f.mount == mount.mount_id}
    on_it = [m for m in _maps(host) if m.file_id in files]
    private = {head for m in on_it for head in m.pages.values()}
    return sum(f.resv.pages() for f in files.values()) + sum(m.promised for m in on_it) + len(private)


def cgroups(host: Host) -> list[str]:
    """Charges of every cgroup equal the recount of pages and reservations charged to it and to all below."""
    if any(group.parent >= number for number, group in host.hugetlb_cgroups.items()):
        return ["a cgroup is older than the one above"]
    expected = _expected(host)
    out = []
    for group in host.hugetlb_cgroups.values():
        for order, hs in host.hstates.items():
            for kind in hugetlb_cgroup.KINDS:
                usage = hugetlb_cgroup.counter(group, kind, order).usage
                found = expected[(kind, group.cgroup_id, order)]
                if usage != found:
                    out.append(
                        f"cgroup {group.path!r}: {usage} {kind} of {hs.size} charged, recounted {found}"
                    )
    return out


def _expected(host: Host) -> Charged:
    direct: Charged = Counter()
    for head, charge in host.page_charges.items():
        order = hugetlb_cgroup.order_at(host, head)
        direct[("pages", charge.pages, order)] += 1
        direct[("reservations", charge.reservations, order)] += 1
    for mapping in _maps(host):
        if mapping.owner:
            direct[("reservations", mapping.cgroup, mapping.order)] += mapping.count - len(mapping.gone)
    for file in host.files.values():
        for first, end, number in file.resv.regions:
            direct[("reservations", number, file.order)] += end - first
    total: Charged = Counter()
    for (kind, number, order), pages in direct.items():
        for group in hugetlb_cgroup.lineage(host, number):
            total[(kind, group.cgroup_id, order)] += pages
    return total


def cgroup_tree(host: Host) -> list[str]:
    """Every cgroup has its parent, tasks are in cgroups that take tasks, removed ones go with their last charge."""
    out = [
        f"cgroup {path!r} hangs in the air"
        for path in host.cgroups
        if cgroup.parent_of(path) not in host.cgroups
    ]
    for task in host.tasks.values():
        group = host.cgroups.get(task.cgroup)
        if group is None or (group.subtree_control and task.cgroup):
            out.append(f"task {task.pid} is in cgroup {task.cgroup!r}, which takes no tasks")
    folders = {group.cgroup_id for group in host.cgroups.values()} - {ROOT}
    for number, state in host.hugetlb_cgroups.items():
        if state.online != (number in folders):
            out.append(f"cgroup {state.path!r}: its folder and its controller state differ")
    for group in host.cgroups.values():
        above = host.cgroups[cgroup.parent_of(group.path)]
        if group.path and (group.cgroup_id != ROOT) != above.subtree_control:
            out.append(f"cgroup {group.path!r}: the controller is not as the one above has it")
    return out


def _maps(host: Host) -> Iterator[HugeMap]:
    return (mapping for task in host.tasks.values() for mapping in task.maps.values())


def _private_pages(host: Host) -> Iterator[int]:
    return (head for mapping in _maps(host) for head in mapping.pages.values())


def reserved_beyond_free(hs: HState, host: Host) -> bool:
    """More is reserved than free, as kernels have it where a mount's minimum or a defect stands behind it."""
    return bool(hs.resv_drift) or any(m.min > 0 and m.order == hs.order for m in host.mounts)
