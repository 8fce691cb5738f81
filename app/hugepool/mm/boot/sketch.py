"""A host that matches a real machine of which only /proc/meminfo is known: booted, then filled as far as it says."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hugepool.mm.boot.boot import SYSTEM_PAGES, boot
from hugepool.mm.boot.image import MachineImage, PoolImage
from hugepool.mm.boot.import_hugepages import IMPORTED_PID, own
from hugepool.mm.boot.pageblock_types import set_type
from hugepool.mm.boot.spec import HostSpec
from hugepool.mm.kernel import hugetlb
from hugepool.mm.kernel.buddy import find_free_blocks, take_pages
from hugepool.mm.kernel.hugetlb_page import dequeue
from hugepool.mm.machine.mmzone import NO_BLOCKS, ZONE_DMA, ZONE_MOVABLE, Migrate, Use
from hugepool.mm.machine.state import Call, Host, HState, Task
from hugepool.mm.machine.units import KB_PER_PAGE, PAGE_SIZE, PAGEBLOCK_PAGES, size_name

UNIT = PAGEBLOCK_PAGES * PAGE_SIZE  # nodes have whole pageblocks
OF_THE_KERNEL = ("Slab", "KernelStack", "PageTables", "SecPageTables", "Percpu")


def host_like(image: MachineImage, spec: HostSpec, call: Call) -> Host:
    """Boot a machine and make its pools and its free memory those of the image.

    Raises:
        BadInput: no machine of that size can be booted.
    """
    host = boot(_sized(image, spec), call)
    owner = Task(IMPORTED_PID, "imported", "imported")
    for pool in sorted(image.pools, key=lambda pool: -pool.order):
        _fill_pool(host, call, pool, owner, image.assumptions)
    if owner.maps:
        host.tasks[IMPORTED_PID] = owner
    _take_memory(host, image)
    host.mem.order.reset()
    shown = {
        "MemTotal": sum(node.managed for node in host.nodes) * KB_PER_PAGE,
        "MemFree": sum(node.nr_free for node in host.nodes) * KB_PER_PAGE,
    }
    lag = {name: image.meminfo_kb[name] - kb for name, kb in shown.items()}
    host.carried = {**image.carried, "assumptions": list(image.assumptions), "approximate": True,
                    "lag": {"meminfo": {name: kb for name, kb in lag.items() if kb}}}  # fmt: skip
    return host


def _sized(image: MachineImage, spec: HostSpec) -> HostSpec:
    """The spec with as much more memory as a boot of it shows to be reserved."""
    trial = boot(replace(spec, cmdline=""), Call())
    wanted = image.meminfo_kb["MemTotal"] // KB_PER_PAGE
    missing = wanted - sum(node.managed for node in trial.nodes)
    per_node = round(missing * PAGE_SIZE / len(spec.nodes) / UNIT) * UNIT
    nodes = tuple(replace(node, memory_bytes=max(UNIT, node.memory_bytes + per_node)) for node in spec.nodes)
    return replace(spec, nodes=nodes)


# -- pools -----------------------------------------------------------------------------------------------


def _fill_pool(host: Host, call: Call, pool: PoolImage, owner: Task, assumed: list[str]) -> None:
    hs = host.hstates[pool.order]
    hugetlb.set_max_huge_pages(host, call, hs, pool.nr, None, host.memory_nodes())
    if hs.nr_huge_pages < pool.nr:
        assumed.append(f"Of {pool.nr} huge pages of {size_name(pool.order)} {hs.nr_huge_pages} found room.")
    used = hs.nr_huge_pages - min(pool.free, hs.nr_huge_pages)
    own(owner, hs, _take_in_turn(host, hs, used), min(max(0, pool.resv), hs.free_huge_pages))
    hs.resv_huge_pages, hs.resv_drift = min(pool.resv, hs.free_huge_pages), min(0, pool.resv)
    hs.surplus_huge_pages, hs.surplus_node[host.memory_nodes()[0]] = pool.surplus, pool.surplus
    hs.max_huge_pages = hs.nr_huge_pages - pool.surplus


def _take_in_turn(host: Host, hs: HState, count: int) -> list[int]:
    """So many free huge pages off their lists, of each node as large a part."""
    found = [NO_BLOCKS]
    for nid, share in zip(host.memory_nodes(), _parts(count, [hs.free_node[n] for n in host.memory_nodes()]),
                          strict=True):  # fmt: skip
        found.append(dequeue(host, hs, nid, share))
    return np.concatenate(found).tolist()  # type: ignore[no-any-return]


def _parts(count: int, room: Sequence[int]) -> list[int]:
    """``count`` split in proportion to the room; the last ones take what rounding leaves."""
    parts, left, total = [], min(count, sum(room)), sum(room)
    for size in room:
        part = left * size // total if total else 0
        parts.append(part)
        left, total = left - part, total - size
    return parts


# -- memory in use ---------------------------------------------------------------------------------------


def _take_memory(host: Host, image: MachineImage) -> None:
    """Take memory until as much is free as the image says: the kernel's share first, then page cache."""
    free = sum(node.nr_free for node in host.nodes)
    left = max(0, free - image.meminfo_kb["MemFree"] // KB_PER_PAGE)
    kernel = sum(image.meminfo_kb.get(name, 0) for name in OF_THE_KERNEL) // KB_PER_PAGE - SYSTEM_PAGES
    kernel = min(max(0, kernel), left)
    _take(host, kernel, ZONE_MOVABLE - 1, Migrate.UNMOVABLE, Use.SYSTEM)
    _take(host, left - kernel, ZONE_MOVABLE, Migrate.MOVABLE, Use.PAGE_CACHE)


def _take(host: Host, count: int, highest: int, mt: Migrate, use: Use) -> None:
    """Take pages of all zones but DMA, of each as large a part of what it has free."""
    zones = [zone for zone in host.zones if ZONE_DMA < zone.type <= highest and zone.nr_free]
    for zone, share in zip(zones, _parts(count, [zone.nr_free for zone in zones]), strict=True):
        blocks = find_free_blocks(host.mem, zone, share // PAGEBLOCK_PAGES)
        host.mem.assign_blocks(blocks, use)
        set_type(host.mem, blocks, mt)
        take_pages(host.mem, zone, share - blocks.size * PAGEBLOCK_PAGES, mt, use)
