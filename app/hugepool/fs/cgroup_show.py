"""The files of cgroups (v2): the folders' own, and those of the hugetlb controller.

Source: mm/hugetlb_cgroup.c hugetlb_cgroup_read_u64_max(), hugetlb_cgroup_read_numa_stat(); kernel/cgroup/cgroup.c
cgroup_print_ss_mask() (5.14, 6.1, 6.12), byte for byte.
"""

from collections.abc import Callable

from hugepool.mm.kernel import cgroup, hugetlb_cgroup
from hugepool.mm.machine.cgroups import ROOT, ROOT_PATH, HugetlbCgroup
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, PAGE_SIZE

NAMES = {ORDER_2M: "2MB", ORDER_1G: "1GB"}  # sizes as the files' names have them
CONTROLLER = "hugetlb"


def path_of(host: Host, args: dict[str, int]) -> str:
    """The path of the cgroup whose folder it is; the root without one."""
    return list(host.cgroups)[args["cgroup"]] if "cgroup" in args else ROOT_PATH


def child(host: Host, args: dict[str, int], name: str) -> int | None:
    """The number of a cgroup in a folder."""
    above = path_of(host, args)
    path = f"{above}/{name}" if above else name
    return list(host.cgroups).index(path) if path in host.cgroups and name else None


def children(host: Host, args: dict[str, int]) -> list[tuple[str, int]]:
    """Names and numbers of the cgroups in a folder."""
    numbers = {path: number for number, path in enumerate(host.cgroups)}
    below = cgroup.children(host, path_of(host, args))
    return [(group.path.rpartition("/")[2], numbers[group.path]) for group in below]


def has_controller(host: Host, args: dict[str, int], order: int) -> bool:
    """Whether the folder has the files of a huge page size."""
    return order in host.hstates and host.cgroups[path_of(host, args)].cgroup_id != ROOT


def procs(host: Host, args: dict[str, int]) -> str:
    """cgroup.procs: the pids."""
    pids = sorted(task.pid for task in cgroup.tasks_in(host, path_of(host, args)))
    return "".join(f"{pid}\n" for pid in pids)


def controllers(host: Host, args: dict[str, int]) -> str:
    """cgroup.controllers: what can be passed on."""
    return f"{CONTROLLER}\n" if cgroup.available(host, path_of(host, args)) else ""


def subtree_control(host: Host, args: dict[str, int]) -> str:
    """cgroup.subtree_control: what is passed on."""
    return f"{CONTROLLER}\n" if host.cgroups[path_of(host, args)].subtree_control else ""


# -- the controller ---------------------------------------------------------------------------------------

_Text = Callable[[Host, HugetlbCgroup, HState], str]


def counter(host: Host, args: dict[str, int], order: int, name: str) -> str:
    """The text of hugetlb.<size>.<name>."""
    group = cgroup.hugetlb(host, path_of(host, args))
    return COUNTERS[name](host, group, host.hstates[order])


def _limit(kind: hugetlb_cgroup.Kind) -> _Text:
    def text(_host: Host, group: HugetlbCgroup, hs: HState) -> str:
        limit = hugetlb_cgroup.counter(group, kind, hs.order).max
        return "max\n" if limit is None else f"{limit * hs.pages * PAGE_SIZE}\n"

    return text


def _usage(kind: hugetlb_cgroup.Kind) -> _Text:
    def text(_host: Host, group: HugetlbCgroup, hs: HState) -> str:
        return f"{hugetlb_cgroup.counter(group, kind, hs.order).usage * hs.pages * PAGE_SIZE}\n"

    return text


def _numa_stat(host: Host, group: HugetlbCgroup, hs: HState) -> str:
    """Bytes in use, in all and by node.

    The kernel's own counts by node go wrong when a cgroup is removed with pages; here they are recounted.
    """
    size = hs.pages * PAGE_SIZE
    of_node = dict.fromkeys(host.memory_nodes(), 0)
    for head, charge in host.page_charges.items():
        mine = any(above.cgroup_id == group.cgroup_id for above in hugetlb_cgroup.lineage(host, charge.pages))
        if mine and hugetlb_cgroup.order_at(host, head) == hs.order:
            of_node[host.node_of_block(head)] += size
    nodes = "".join(f" N{nid}={used}" for nid, used in of_node.items())
    return f"total={hugetlb_cgroup.counter(group, 'pages', hs.order).usage * size}{nodes}\n"


COUNTERS: dict[str, _Text] = {
    "max": _limit("pages"),
    "current": _usage("pages"),
    "rsvd.max": _limit("reservations"),
    "rsvd.current": _usage("reservations"),
    "events": lambda _host, group, hs: f"max {group.events[hs.order]}\n",
    "events.local": lambda _host, group, hs: f"max {group.events_local[hs.order]}\n",
    "numa_stat": _numa_stat,
}
