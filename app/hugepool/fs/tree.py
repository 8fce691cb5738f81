"""The tree of files as one table: path template -> mode and text.  Folders follow from the paths.

``{size}``, ``{node}``, ``{block}``, ``{cpu}`` and ``{area}`` stand for ``hugepages-2048kB``, ``node0``, ``memory32``,
``cpu7`` and ``cma-reserved``; ``{cgroup}`` for the folder of a cgroup, which has folders of the same kind in it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from hugepool.fs import cgroup_show, cpu_show, proc_show, sys_show, thp, zone_show
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import ORDER_1G, order_of, size_name

Args = dict[str, int]
Show = Callable[[Host, Args], str]
When = Callable[[Host, Args], bool]


def _always(_host: Host, _args: Args) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class File:
    """A file: permission bits, its text (None: write-only), and on which hosts it is there."""

    mode: int
    show: Show | None
    when: When = _always
    template: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to a folder, named by template."""

    target: str
    when: When


@dataclass(slots=True)
class Folder:
    """A folder: fixed names and placeholders."""

    children: dict[str, "Folder | File | Link"] = field(default_factory=dict)


Item = Folder | File | Link
SIZE = "/sys/kernel/mm/hugepages/{size}"
NODE = "/sys/devices/system/node/{node}"
NODE_SIZE = NODE + "/hugepages/{size}"
MEMORY = "/sys/devices/system/memory"
BLOCK = MEMORY + "/{block}"
CPUS = "/sys/devices/system/cpu"
CPU = CPUS + "/{cpu}"
VM = "/proc/sys/vm"
AREA = "/sys/kernel/debug/cma/{area}"
CGROUPS = "/sys/fs/cgroup"
CGROUP = CGROUPS + "/{cgroup}"
READ, WRITABLE, WRITE_ONLY, ROOT_ONLY = 0o444, 0o644, 0o200, 0o400


# -- conditions ------------------------------------------------------------------------------------------


def _has_demote(host: Host, args: Args) -> bool:
    return host.profile.demote and args["size"] == ORDER_1G and _has_node_pools(host, args)


def _has_node_pools(host: Host, args: Args) -> bool:
    if "node" not in args or host.profile.node_dir_without_memory:
        return True
    return host.nodes[args["node"]].present > 0


def _has_optimize(host: Host, _args: Args) -> bool:
    return host.profile.sysctl_optimize and host.vmemmap_supported


def _has_ranges(host: Host, _args: Args) -> bool:
    return host.profile.cma_ranges


def _block_on_node(host: Host, args: Args) -> bool:
    return args["node"] in sys_show.nodes_of_block(host, args["block"])


def _cpu_on_node(host: Host, args: Args) -> bool:
    return args["cpu"] in host.nodes[args["node"]].cpus


# -- the table -------------------------------------------------------------------------------------------


def _of_host(show: Callable[[Host], str]) -> Show:
    return lambda host, _args: show(host)


def _of_node(show: Callable[[Host, int], str]) -> Show:
    return lambda host, args: show(host, args["node"])


def _of_block(show: Callable[[Host, int], str]) -> Show:
    return lambda host, args: show(host, args["block"])


def _of_cpu(show: Callable[[Host, int], str]) -> Show:
    return lambda host, args: show(host, args["cpu"])


def _constant(text: str) -> Show:
    return lambda _host, _args: text


def _pool(name: str) -> Show:
    return lambda host, args: sys_show.pool_counter(host, args["size"], name)


def _node_pool(name: str) -> Show:
    return lambda host, args: sys_show.node_counter(host, args["node"], args["size"], name)


def _of_area(name: str) -> Show:
    return lambda host, args: sys_show.cma_counter(host, args["area"], name)


def _ratios(host: Host) -> str:
    ratios = [*host.lowmem_reserve_ratio[:4], *([0] if host.profile.device_zone else [])]
    return "\t".join(map(str, ratios)) + "\n"


def _of_cgroup(order: int, name: str) -> File:
    def when(host: Host, args: Args) -> bool:
        known = name != "numa_stat" or host.profile.cgroup_numa_stat
        return known and cgroup_show.has_controller(host, args, order)

    mode = WRITABLE if name.endswith("max") else READ
    return File(mode, partial(cgroup_show.counter, order=order, name=name), when)


FILES: dict[str, File] = {
    "/proc/meminfo": File(READ, _of_host(proc_show.meminfo)),
    "/proc/vmstat": File(READ, _of_host(proc_show.vmstat)),
    "/proc/buddyinfo": File(READ, _of_host(zone_show.buddyinfo)),
    "/proc/pagetypeinfo": File(ROOT_ONLY, _of_host(zone_show.pagetypeinfo)),
    "/proc/zoneinfo": File(READ, _of_host(zone_show.zoneinfo)),
    "/proc/cmdline": File(READ, lambda host, _: f"{host.cmdline}\n"),
    "/proc/mounts": File(READ, _of_host(proc_show.mounts)),
    f"{VM}/compact_memory": File(WRITE_ONLY, None),
    f"{VM}/drop_caches": File(WRITE_ONLY, None),
    f"{VM}/hugetlb_shm_group": File(WRITABLE, lambda host, _: f"{host.hugetlb_shm_group}\n"),
    f"{VM}/hugetlb_optimize_vmemmap": File(
        WRITABLE, lambda host, _: f"{int(host.optimize_enabled)}\n", _has_optimize
    ),
    f"{VM}/lowmem_reserve_ratio": File(WRITABLE, _of_host(_ratios)),
    f"{VM}/min_free_kbytes": File(WRITABLE, lambda host, _: f"{host.min_free_kbytes}\n"),
    **{
        f"{VM}/{name}": File(WRITABLE, _of_host(partial(sys_show.pool_sysctl, name=name)))
        for name in sys_show.SYSCTL_COUNTERS
    },
    f"{VM}/watermark_scale_factor": File(WRITABLE, lambda host, _: f"{host.watermark_scale_factor}\n"),
    f"{SIZE}/demote": File(WRITE_ONLY, None, _has_demote),
    f"{SIZE}/demote_size": File(WRITABLE, lambda _host, _args: sys_show.demote_size(), _has_demote),
    **{
        f"{SIZE}/{name}": File(WRITABLE if name.startswith("nr_") else READ, _pool(name))
        for name in sys_show.POOL_COUNTERS
    },
    f"{AREA}/alloc": File(WRITE_ONLY, None),
    f"{AREA}/free": File(WRITE_ONLY, None),
    **{
        f"{AREA}/{name}": File(READ, _of_area(name))
        for name in ("base_pfn", "count", "order_per_bit", "used", "maxchunk")
    },
    f"{AREA}/ranges/0/base_pfn": File(READ, _of_area("base_pfn"), _has_ranges),
    **{
        f"{thp.FOLDER}/{name}": File(mode, _of_host(partial(thp.shown, name=name)))
        for mode, names in ((WRITABLE, thp.WRITABLE), (READ, thp.FIXED))
        for name in names
    },
    **{
        f"/sys/devices/system/node/{name}": File(READ, _of_host(partial(sys_show.node_list, name=name)))
        for name in ("has_cpu", "has_memory", "has_normal_memory", "online", "possible")
    },
    f"{NODE}/compact": File(WRITE_ONLY, None),
    f"{NODE}/cpulist": File(READ, _of_node(sys_show.cpulist)),
    f"{NODE}/cpumap": File(READ, _of_node(sys_show.cpumap)),
    f"{NODE}/distance": File(READ, _of_node(sys_show.distance)),
    f"{NODE}/meminfo": File(READ, _of_node(proc_show.node_meminfo)),
    f"{NODE}/numastat": File(READ, _of_node(proc_show.numastat)),
    f"{NODE}/vmstat": File(READ, _of_node(proc_show.node_vmstat)),
    f"{NODE_SIZE}/demote": File(WRITE_ONLY, None, _has_demote),
    f"{NODE_SIZE}/demote_size": File(WRITABLE, lambda _host, _args: sys_show.demote_size(), _has_demote),
    **{
        f"{NODE_SIZE}/{name}": File(
            WRITABLE if name.startswith("nr_") else READ, _node_pool(name), _has_node_pools
        )
        for name in sys_show.NODE_COUNTERS
    },
    f"{MEMORY}/auto_online_blocks": File(WRITABLE, lambda host, _: f"{host.auto_online_blocks}\n"),
    f"{MEMORY}/hard_offline_page": File(WRITE_ONLY, None),
    f"{MEMORY}/soft_offline_page": File(WRITE_ONLY, None),
    f"{MEMORY}/block_size_bytes": File(READ, _of_host(sys_show.block_size_bytes)),
    f"{BLOCK}/online": File(WRITABLE, _of_block(sys_show.block_online)),
    f"{BLOCK}/phys_device": File(READ, _constant("0\n")),
    f"{BLOCK}/phys_index": File(READ, _of_block(sys_show.phys_index)),
    f"{BLOCK}/removable": File(READ, _constant("1\n")),
    f"{BLOCK}/state": File(WRITABLE, _of_block(sys_show.block_state)),
    f"{BLOCK}/valid_zones": File(READ, _of_block(sys_show.valid_zones)),
    **{
        f"{folder}/{name}": File(mode, show)
        for folder in (CGROUPS, CGROUP)
        for name, mode, show in (
            ("cgroup.controllers", READ, cgroup_show.controllers),
            ("cgroup.procs", WRITABLE, cgroup_show.procs),
            ("cgroup.subtree_control", WRITABLE, cgroup_show.subtree_control),
        )
    },
    **{
        f"{CGROUP}/hugetlb.{size}.{name}": _of_cgroup(order, name)
        for order, size in cgroup_show.NAMES.items()
        for name in cgroup_show.COUNTERS
    },
    **{f"{CPUS}/{name}": File(READ, _of_host(cpu_show.listed)) for name in ("online", "possible", "present")},
    **{f"{CPU}/topology/{name}": File(READ, _of_cpu(show)) for name, show in cpu_show.TOPOLOGY.items()},
}
LINKS: dict[str, Link] = {
    f"{NODE}/{{block}}": Link(BLOCK, _block_on_node),
    f"{NODE}/{{cpu}}": Link(CPU, _cpu_on_node),
    f"{BLOCK}/{{node}}": Link(NODE, _block_on_node),
    f"{CPU}/{{node}}": Link(NODE, _cpu_on_node),
}


# -- walking ---------------------------------------------------------------------------------------------


def _plant() -> Folder:
    root = Folder()
    items: dict[str, File | Link] = {**FILES, **LINKS}
    for template, item in items.items():
        folder = root
        *parents, name = template[1:].split("/")
        for part in parents:
            below = folder.children.setdefault(part, Folder())
            if not isinstance(below, Folder):
                raise TypeError(f"{template}: {part} is a file")
            folder = below
        named = File(item.mode, item.show, item.when, template) if isinstance(item, File) else item
        folder.children[name] = named
        if parents[-1:] == ["{cgroup}"]:
            folder.children["{cgroup}"] = folder  # cgroups in cgroups
    return root


ROOT = _plant()
_PLACEHOLDERS = {
    "{size}": re.compile(r"hugepages-([1-9][0-9]{0,8}kB)"),
    "{node}": re.compile(r"node(0|[1-9][0-9]{0,4})"),
    "{block}": re.compile(r"memory(0|[1-9][0-9]{0,8})"),
    "{area}": re.compile(r"([\w-]+)"),
    "{cpu}": re.compile(r"cpu(0|[1-9][0-9]{0,4})"),
    "{cgroup}": re.compile(r"(.+)"),
}


def _value(host: Host, placeholder: str, name: str, args: Args) -> int | None:
    """What a name in a folder stands for: order, number of a node, block, CPU or cgroup; None: the host has it not."""
    match = _PLACEHOLDERS[placeholder].fullmatch(name)
    if match is None:
        return None
    if placeholder == "{size}":
        order = order_of(match[1])
        return order if order in host.hstates else None
    if placeholder == "{area}":
        return next((i for folder, i in _names(host, placeholder, {}) if folder == name), None)
    if placeholder == "{cgroup}":
        return cgroup_show.child(host, args, name)
    number = int(match[1])
    return number if _HAS[placeholder](host, number) else None


_HAS: dict[str, Callable[[Host, int], bool]] = {
    "{node}": lambda host, nid: nid < len(host.nodes),
    "{block}": sys_show.has_block,
    "{cpu}": lambda host, cpu: any(cpu in node.cpus for node in host.nodes),
}


def _names(host: Host, placeholder: str, args: Args) -> Iterable[tuple[str, int]]:
    if placeholder == "{size}":
        return [(f"hugepages-{size_name(order)}", order) for order in sorted(host.hstates)]
    if placeholder == "{area}":
        return [(host.profile.cma_folder + area.name, i) for i, area in enumerate(host.cma_areas)]
    if placeholder == "{cgroup}":
        return cgroup_show.children(host, args)
    return [(f"{_STEMS[placeholder]}{number}", number) for number in _numbers(host, placeholder, args)]


_STEMS = {"{node}": "node", "{block}": "memory", "{cpu}": "cpu"}


def _numbers(host: Host, placeholder: str, args: Args) -> Iterable[int]:
    """Numbers of the nodes, blocks or CPUs in a folder: all, or those that belong to whose folder it is."""
    if placeholder == "{node}":
        if "cpu" in args:
            return [cpu_show.node_of(host, args["cpu"])]
        return sys_show.nodes_of_block(host, args["block"]) if "block" in args else range(len(host.nodes))
    if placeholder == "{cpu}":
        return host.nodes[args["node"]].cpus if "node" in args else cpu_show.cpus(host)
    return sys_show.blocks_of_node(host, args["node"]) if "node" in args else sys_show.blocks(host)


def children(host: Host, folder: Folder, args: Args) -> Iterable[tuple[str, Item]]:
    """Names in a folder with what they are, in the table's order."""
    for key, item in folder.children.items():
        if key in _PLACEHOLDERS:
            for name, number in _names(host, key, args):
                if is_there(host, item, {**args, key[1:-1]: number}):
                    yield name, item
        elif is_there(host, item, args):
            yield key, item


def is_there(host: Host, item: Item, args: Args) -> bool:
    """Whether the host has the file, the link, or anything in the folder."""
    if isinstance(item, Folder):
        below = (child for key, child in item.children.items() if key not in _PLACEHOLDERS)
        return any(key in _PLACEHOLDERS for key in item.children) or any(
            is_there(host, child, args) for child in below
        )
    return item.when(host, args)


def walk(host: Host, path: str) -> tuple[Folder | File, Args]:
    """The file or folder at a path, links followed.

    Raises:
        NotFound: nothing is there.
    """
    item: Item = ROOT
    args: Args = {}
    for name in filter(None, path.split("/")):
        found = _step(host, item, args, name)
        if found is None:
            raise NotFound(f"{path}: no such file or directory")
        item, args = found
        if isinstance(item, Link):
            item, args = _follow(item, args)
    if isinstance(item, Link):
        raise TypeError("a link is followed at once")
    return item, args


def _step(host: Host, item: Item, args: Args, name: str) -> tuple[Item, Args] | None:
    if not isinstance(item, Folder):
        return None
    child = item.children.get(name) if name not in _PLACEHOLDERS else None
    if child is None:
        for key in _PLACEHOLDERS.keys() & item.children.keys():
            number = _value(host, key, name, args)
            if number is not None:
                child, args = item.children[key], {**args, key[1:-1]: number}
    return (child, args) if child is not None and is_there(host, child, args) else None


def _follow(link: Link, args: Args) -> tuple[Item, Args]:
    item: Item = ROOT
    kept = {}
    for part in link.target[1:].split("/"):
        if isinstance(item, Folder):
            item = item.children[part]
        if part in _PLACEHOLDERS:
            kept[part[1:-1]] = args[part[1:-1]]
    return item, kept
