"""The files of /sys as records: huge page pools, nodes, memory blocks.

Source: mm/hugetlb.c, drivers/base/node.c, drivers/base/memory.c (5.14); docs/kernel-rules.md 1.3 and 7.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hugepool.fs.procfs import MAX_NODES
from hugepool.fs.textfile import MAX_PAGES, Line, number_list, single
from hugepool.mm.boot.image import PoolImage
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import PAGE_SHIFT, SECTION_PAGES, ULONG_MAX, order_of, size_name

POOLS = "/sys/kernel/mm/hugepages"
NODES = "/sys/devices/system/node"
MEMORY = "/sys/devices/system/memory"
UINT_MAX = (1 << 32) - 1
# The kernel's surplus counter is unsigned and underflows (5.14..6.8): so close to the top it is negative.
UNDERFLOW = 1 << 20
BLOCK_STATES = ("online", "offline", "going-offline")

_POOL_FILE = re.compile(rf"{POOLS}/hugepages-([0-9]+kB)/([a-z_]+)")
_NODE_POOL_FILE = re.compile(rf"{NODES}/node([0-9]+)/hugepages/hugepages-([0-9]+kB)/([a-z_]+)")
_NODE_FILE = re.compile(rf"{NODES}/node([0-9]+)/([a-z]+)")
_BLOCK_FILE = re.compile(rf"{MEMORY}/memory([0-9]+)/([a-z0-9_]+)")
_BLOCK_OF_NODE = re.compile(rf"{NODES}/node([0-9]+)/memory([0-9]+)")
_COUNTERS = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
_ZONE_WORDS = frozenset({"DMA", "DMA32", "Normal", "Movable", "Device", "none"})


@dataclass(slots=True)
class NodeFiles:
    """What the node folders tell: CPUs and distances where given, and every node number seen."""

    nids: set[int] = field(default_factory=set)
    cpus: dict[int, list[int]] = field(default_factory=dict)
    distance: dict[int, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class BlockFiles:
    """What the memory folder tells: blocks as in ``MachineImage.blocks``."""

    block_pages: int | None = None
    blocks: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)
    auto_online: str = "offline"


def signed(number: int, top: int) -> int:
    """A counter that may have underflowed: numbers just below 2**64 or 2**32 are small negative ones."""
    return number - top - 1 if top - UNDERFLOW < number <= top else number


# -- huge page pools -------------------------------------------------------------------------------------


def read_pools(files: Mapping[str, str]) -> dict[int, PoolImage]:
    """The pools of /sys/kernel/mm/hugepages with their nodes, by order; empty when the folder is not given.

    Raises:
        BadInput: a size x86-64 does not have, a missing counter, or counters that contradict each other.
    """
    found: dict[int, dict[str, int]] = {}
    for path in files:
        match = _POOL_FILE.fullmatch(path)
        if match:
            counters = found.setdefault(_order(path, match[1]), {})
            if match[2].endswith("hugepages"):
                counters[match[2]] = _counter(files, path, match[2], ULONG_MAX)
    pools = {order: _pool(order, counters) for order, counters in sorted(found.items())}
    _read_node_pools(files, pools)
    return pools


def _order(path: str, size: str) -> int:
    order = order_of(size)
    if order is None:
        raise BadInput(
            f"{size} is not a huge page size of x86-64: 2048kB and 1048576kB are", where=f"{path}:1"
        )
    return order


def _counter(files: Mapping[str, str], path: str, name: str, top: int) -> int:
    line = single(files, path)
    if line is None:
        raise BadInput("the file is missing", where=path)
    if name == "surplus_hugepages":
        return signed(line.count(line.text, name, top), top)
    limit = ULONG_MAX if name == "nr_overcommit_hugepages" else MAX_PAGES
    return line.count(line.text, name, limit)


def _pool(order: int, counters: dict[str, int]) -> PoolImage:
    folder = f"{POOLS}/hugepages-{size_name(order)}"
    for name in _COUNTERS:
        if name not in counters:
            raise BadInput("the file is missing, and its neighbours are there", where=f"{folder}/{name}")
    pool = PoolImage(
        order=order,
        nr=counters["nr_hugepages"],
        free=counters["free_hugepages"],
        resv=counters.get("resv_hugepages", 0),
        surplus=counters["surplus_hugepages"],
        overcommit=counters.get("nr_overcommit_hugepages", 0),
    )
    check_counters(pool, folder)
    return pool


def check_counters(pool: PoolImage, where: str) -> None:
    """Refuse counters that no kernel shows: free above nr, or reserved above free."""
    if pool.free > pool.nr:
        raise BadInput(f"{pool.free} free huge pages of {pool.nr}", where=f"{where}/free_hugepages:1")
    if pool.resv > pool.free:
        detail = f"{pool.resv} huge pages are reserved, but only {pool.free} are free"
        raise BadInput(detail, where=f"{where}/resv_hugepages:1")


def _read_node_pools(files: Mapping[str, str], pools: dict[int, PoolImage]) -> None:
    for path in files:
        match = _NODE_POOL_FILE.fullmatch(path)
        if match is None or match[3] != "nr_hugepages":
            continue
        pool = pools.get(_order(path, match[2]))
        if pool is None:
            folder = f"{POOLS}/hugepages-{match[2]}"
            raise BadInput("the node has pages of this size, but the folder is missing", where=folder)
        folder = path.rpartition("/")[0]
        nr, free, surplus = (_counter(files, f"{folder}/{name}", name, UINT_MAX) for name in _COUNTERS)
        if free > nr:
            raise BadInput(f"{free} free huge pages of {nr}", where=f"{folder}/free_hugepages:1")
        pool.nodes[_nid(path, match[1])] = (nr, free, surplus)


def _nid(path: str, word: str) -> int:
    return Line(path, 1, word).count(word, "the node number", MAX_NODES - 1)


# -- nodes -----------------------------------------------------------------------------------------------


def read_nodes(files: Mapping[str, str]) -> NodeFiles:
    """Node numbers, CPUs and distances of /sys/devices/system/node."""
    found = NodeFiles()
    for path in files:
        match = _NODE_FILE.fullmatch(path)
        if match is None:
            continue
        nid = _nid(path, match[1])
        found.nids.add(nid)
        if match[2] == "cpulist":
            found.cpus[nid] = _cpulist(files, path)
        elif match[2] == "distance":
            found.distance[nid] = _distance(files, path)
    owners = [cpu for cpus in found.cpus.values() for cpu in cpus]
    if len(owners) != len(set(owners)):
        raise BadInput("a CPU belongs to two nodes", where=f"{NODES}/node{max(found.cpus)}/cpulist:1")
    return found


def _cpulist(files: Mapping[str, str], path: str) -> list[int]:
    if not files[path].strip():
        return []
    line = single(files, path)
    return number_list(line, line.text) if line else []


def _distance(files: Mapping[str, str], path: str) -> list[int]:
    line = single(files, path)
    return [line.count(word, "a distance", 255) for word in line.text.split()] if line else []


# -- memory blocks ---------------------------------------------------------------------------------------


def read_blocks(files: Mapping[str, str]) -> BlockFiles:
    """The memory blocks of /sys/devices/system/memory, with their nodes where the links are given.

    Raises:
        BadInput: an unknown state or zone, a block without state, a block size that x86-64 cannot have.
    """
    found = BlockFiles(block_pages=_block_pages(files))
    auto = single(files, f"{MEMORY}/auto_online_blocks")
    if auto is not None:
        found.auto_online = auto.text
    owner = _block_owners(files)
    numbers = {int(match[1]) for match in map(_BLOCK_FILE.fullmatch, files) if match}
    if numbers and found.block_pages is None:
        raise BadInput("the file is missing, and memory blocks are there", where=f"{MEMORY}/block_size_bytes")
    for number in sorted(numbers):
        found.blocks[number] = _block(files, number, found.block_pages or 1, owner.get(number))
    return found


def _block_pages(files: Mapping[str, str]) -> int | None:
    line = single(files, f"{MEMORY}/block_size_bytes")
    if line is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{1,16}", line.text):
        line.fail(f"{line.text[:40]!r} is not a hexadecimal number without 0x")
    pages, rest = divmod(int(line.text, 16), 1 << PAGE_SHIFT)
    if rest or pages % SECTION_PAGES or not 0 < pages <= MAX_PAGES or pages & (pages - 1):
        line.fail(f"{line.text} is not a block size of x86-64: 128 MiB (8000000) times a power of two")
    return pages


def _block_owners(files: Mapping[str, str]) -> dict[int, int]:
    owner: dict[int, int] = {}
    for path in files:
        match = _BLOCK_OF_NODE.fullmatch(path)
        link = _BLOCK_FILE.fullmatch(path)
        if match:
            number, nid = int(match[2]), _nid(path, match[1])
        elif link and re.fullmatch("node[0-9]+", link[2]):
            number, nid = int(link[1]), _nid(path, link[2][4:])
        else:
            continue
        # A block that two nodes share has two links; it is counted with the lower node.
        owner[number] = min(nid, owner.get(number, nid))
    return owner


def _block(files: Mapping[str, str], number: int, pages: int, nid: int | None) -> tuple[str, str, int | None]:
    folder = f"{MEMORY}/memory{number}"
    if (number + 1) * pages > MAX_PAGES:
        raise BadInput(f"block {number} lies above 64 TiB", where=f"{folder}/state:1")
    state = single(files, f"{folder}/state")
    if state is None:
        raise BadInput("the file is missing, and its neighbours are there", where=f"{folder}/state")
    if state.text not in BLOCK_STATES:
        state.fail(f"{state.text[:40]!r} is not a state of a memory block: {', '.join(BLOCK_STATES)}")
    zones = single(files, f"{folder}/valid_zones")
    if zones is not None and not set(zones.text.split()) <= _ZONE_WORDS:
        zones.fail(f"{zones.text[:40]!r} is not a list of zones")
    return state.text, zones.text if zones else "", nid
