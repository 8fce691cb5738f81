"""The texts below /sys, and which nodes, blocks and sizes there are.

Source: mm/hugetlb.c, drivers/base/node.c, drivers/base/memory.c (5.14); docs/kernel-rules.md 1.3, 1.4 and 7.1.
"""

from collections.abc import Callable, Iterator

import numpy as np

from hugepool.fs import cpu_show
from hugepool.fs.account import unsigned
from hugepool.fs.textfile import bitmap_list
from hugepool.mm.kernel import memory_hotplug
from hugepool.mm.kernel.cma import taken_pages
from hugepool.mm.machine.mmzone import ZONE_NORMAL, SectionState
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import ORDER_2M, PAGE_SIZE, SECTION_PAGES, size_name

UINT_MAX = (1 << 32) - 1


# -- huge page pools -------------------------------------------------------------------------------------

POOL_COUNTERS: dict[str, Callable[[HState], int]] = {
    "nr_hugepages": lambda hs: hs.nr_huge_pages,
    "nr_hugepages_mempolicy": lambda hs: hs.nr_huge_pages,
    "nr_overcommit_hugepages": lambda hs: hs.nr_overcommit_huge_pages,
    "free_hugepages": lambda hs: hs.free_huge_pages,
    "resv_hugepages": lambda hs: hs.resv_shown,
    "surplus_hugepages": lambda hs: hs.surplus_huge_pages,
}
NODE_COUNTERS: dict[str, Callable[[HState, int], int]] = {
    "nr_hugepages": lambda hs, nid: hs.nr_node[nid],
    "free_hugepages": lambda hs, nid: hs.free_node[nid],
    "surplus_hugepages": lambda hs, nid: hs.surplus_node[nid],
}
SYSCTL_COUNTERS: dict[str, Callable[[HState], int]] = {
    "nr_hugepages": lambda hs: hs.max_huge_pages,
    "nr_hugepages_mempolicy": lambda hs: hs.max_huge_pages,
    "nr_overcommit_hugepages": lambda hs: hs.nr_overcommit_huge_pages,
}


def pool_counter(host: Host, order: int, name: str) -> str:
    """A counter of a pool: nr with surplus."""
    return f"{unsigned(POOL_COUNTERS[name](host.hstates[order]))}\n"


def node_counter(host: Host, nid: int, order: int, name: str) -> str:
    """A counter of a pool on one node: an unsigned int in the kernel."""
    return f"{NODE_COUNTERS[name](host.hstates[order], nid) & UINT_MAX}\n"


def pool_sysctl(host: Host, name: str) -> str:
    """A counter of the default pool below /proc/sys/vm: max, which surplus is not part of."""
    return f"{unsigned(SYSCTL_COUNTERS[name](host.hstates[host.default_order]))}\n"


def demote_size() -> str:
    """What a 1 GiB page is demoted to."""
    return f"{size_name(ORDER_2M)}\n"


# -- nodes -----------------------------------------------------------------------------------------------


def node_list(host: Host, name: str) -> str:
    """A node state: online, possible, has_memory, has_normal_memory, has_cpu."""
    if name == "possible" and "possible" in host.carried:
        return f"{host.carried['possible']}\n"
    nodes = {
        "online": host.nodes,
        "possible": host.nodes,
        "has_memory": [node for node in host.nodes if node.present],
        "has_normal_memory": [n for n in host.nodes if any(z.present for z in n.zones[: ZONE_NORMAL + 1])],
        "has_cpu": [node for node in host.nodes if node.cpus],
    }[name]
    return bitmap_list(node.nid for node in nodes)


def cpumap(host: Host, nid: int) -> str:
    """A node's CPUs as a bitmap."""
    return cpu_show.bitmap(host, host.nodes[nid].cpus)


def cpulist(host: Host, nid: int) -> str:
    """A node's CPUs as a list."""
    return bitmap_list(host.nodes[nid].cpus)


def distance(host: Host, nid: int) -> str:
    """A node's row of the distance table."""
    return " ".join(map(str, host.nodes[nid].distance)) + "\n"


# -- memory blocks ---------------------------------------------------------------------------------------


def sections_per_block(host: Host) -> int:
    """Sections of one memory block."""
    return host.memory_block_pages // SECTION_PAGES


def _sections(host: Host, block: int) -> slice:
    per_block = sections_per_block(host)
    return slice(block * per_block, (block + 1) * per_block)


def has_block(host: Host, block: int) -> bool:
    """Whether the memory block exists: some section of it is present."""
    part = host.mem.section_state[_sections(host, block)]
    return bool((part != SectionState.ABSENT).any())


def blocks(host: Host) -> list[int]:
    """Numbers of all memory blocks."""
    present = np.flatnonzero(host.mem.section_state != SectionState.ABSENT)
    return [int(block) for block in np.unique(present // sections_per_block(host))]


def blocks_of_node(host: Host, nid: int) -> Iterator[int]:
    """Memory blocks with a section of this node."""
    mine = (host.mem.section_state != SectionState.ABSENT) & (host.mem.section_nid == nid)
    yield from (int(block) for block in np.unique(np.flatnonzero(mine) // sections_per_block(host)))


def nodes_of_block(host: Host, block: int) -> list[int]:
    """Nodes that have a section of this memory block."""
    part = _sections(host, block)
    there = host.mem.section_state[part] != SectionState.ABSENT
    return [int(nid) for nid in np.unique(host.mem.section_nid[part][there]) if nid >= 0]


def is_online(host: Host, block: int) -> bool:
    """Whether no section of the memory block is offline."""
    return not bool((host.mem.section_state[_sections(host, block)] == SectionState.OFFLINE).any())


def block_state(host: Host, block: int) -> str:
    """``online`` or ``offline``."""
    return "online\n" if is_online(host, block) else "offline\n"


def block_online(host: Host, block: int) -> str:
    """1 or 0."""
    return "1\n" if is_online(host, block) else "0\n"


def phys_index(_host: Host, block: int) -> str:
    """The block's number, eight hexadecimal digits."""
    return f"{block:08x}\n"


def block_size_bytes(host: Host) -> str:
    """Hexadecimal without 0x."""
    return f"{host.memory_block_pages * PAGE_SIZE:x}\n"


def valid_zones(host: Host, block: int) -> str:
    """The zone of an online block (``none`` if several); of an offline one the zones it can go to.

    Source: drivers/base/memory.c valid_zones_show(), mm/memory_hotplug.c zone_for_pfn_range() (5.14).
    """
    if is_online(host, block):
        zone = memory_hotplug.zone_of_block(host, block)
        return f"{zone.name if zone else 'none'}\n"
    start = block * host.memory_block_pages
    nid = nodes_of_block(host, block)[0]
    return " ".join(memory_hotplug.valid_zones(host, nid, start, start + host.memory_block_pages)) + "\n"


# -- CMA areas -------------------------------------------------------------------------------------------


def cma_counter(host: Host, index: int, name: str) -> str:
    """A file of an area below /sys/kernel/debug/cma.  Source: mm/cma_debug.c (5.14)."""
    area = host.cma_areas[index]
    taken = taken_pages(host, area)
    if name == "maxchunk":
        edges = np.flatnonzero(np.concatenate(([True], taken, [True])))
        return f"{int(np.diff(edges).max()) - 1}\n"
    values = {"base_pfn": area.base_pfn, "count": area.nr_pages, "order_per_bit": 0, "used": int(taken.sum())}
    return f"{values[name]}\n"
