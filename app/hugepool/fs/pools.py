"""The pools of huge pages as a machine's files show them: /sys, the nodes' meminfo, /proc/meminfo, in this order.

Source: mm/hugetlb.c hugetlb_report_meminfo(), hugetlb_report_node_meminfo() (5.14); docs/kernel-rules.md 1.3 and 1.5.
"""

import re
from collections.abc import Mapping

from hugepool.fs.consistency import AGAIN, MEMINFO, NODES, check_pool, check_pools_fit
from hugepool.fs.procfs import parse_node_meminfo
from hugepool.fs.sysfs import node_in_path
from hugepool.fs.textfile import MAX_PAGES, single, value
from hugepool.mm.boot.cmdline import parse_cmdline
from hugepool.mm.boot.image import MachineImage, PoolImage, PoolOfNode
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, ULONG_MAX, order_of, size_name

POOLS = "/sys/kernel/mm/hugepages"
SYSCTL = "/proc/sys/vm"
UINT_MAX = (1 << 32) - 1
# The surplus counter is unsigned and underflows (5.14 to 6.8), reservations have done so too: numbers so close to the
# top are negative.
UNDERFLOW = 1 << 20

_POOL_FILE = re.compile(rf"{POOLS}/hugepages-([0-9]+kB)/([a-z_]+)")
_NODE_POOL_FILE = re.compile(rf"{NODES}/node([0-9]+)/hugepages/hugepages-([0-9]+kB)/nr_hugepages")
_COUNTERS = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
_SIGNED = ("surplus_hugepages", "resv_hugepages")
_OF_MEMINFO = ("HugePages_Total", "HugePages_Free", "HugePages_Surp")


def add_pools(image: MachineImage, files: Mapping[str, str]) -> None:
    """Fill in ``image.pools``; what no file says goes into ``image.assumptions``.

    Raises:
        BadInput: a size that x86-64 does not have, a missing counter, or counters that contradict each other.
    """
    pools = _of_sysfs(files) or of_meminfo(image)
    _add_nodes(files, pools)
    for order, pool in sorted(pools.items()):
        _spread(image, pool, files)
        check_pool(pool, image.memory_nodes(), f"{POOLS}/hugepages-{size_name(order)}", image.assumptions)
        pool.max = pool.nr - pool.surplus
        if order == image.default_order:
            _check_default(image, pool, files)
    image.pools = [pools[order] for order in sorted(pools)]
    check_pools_fit(image)


def signed(number: int, top: int) -> int:
    """A counter that may have underflowed: numbers just below 2**64 or 2**32 are small negative ones."""
    return number - top - 1 if top - UNDERFLOW < number <= top else number


# -- of the whole machine --------------------------------------------------------------------------------


def _of_sysfs(files: Mapping[str, str]) -> dict[int, PoolImage]:
    found: dict[int, dict[str, int]] = {}
    for path in files:
        match = _POOL_FILE.fullmatch(path)
        if match:
            counters = found.setdefault(_order(path, match[1]), {})
            if match[2].endswith("hugepages"):
                counters[match[2]] = _counter(files, path, match[2], ULONG_MAX)
    return {order: _pool(order, counters) for order, counters in found.items()}


def _order(path: str, size: str) -> int:
    order = order_of(size)
    if order is None:
        raise BadInput(
            f"{size} is not a huge page size of x86-64, which has 2048kB and 1048576kB; other sizes are those of "
            "arm64 and others, which hugepool does not model", where=f"{path}:1"
        )  # fmt: skip
    return order


def _counter(files: Mapping[str, str], path: str, name: str, top: int) -> int:
    line = single(files, path)
    if line is None:
        raise BadInput("the file is missing", where=path)
    if name in _SIGNED:
        return signed(line.count(line.text, name, top), top)
    return line.count(line.text, name, ULONG_MAX if name == "nr_overcommit_hugepages" else MAX_PAGES)


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
    _check_counters(pool, folder)
    return pool


def _check_counters(pool: PoolImage, where: str) -> None:
    """Refuse counters that no kernel shows: free above nr, or reserved above free."""
    if pool.free > pool.nr:
        raise BadInput(f"{pool.free} free huge pages of {pool.nr}", where=f"{where}/free_hugepages:1")
    if pool.resv > pool.free:
        detail = f"{pool.resv} huge pages are reserved, but only {pool.free} are free"
        raise BadInput(detail, where=f"{where}/resv_hugepages:1")


def of_meminfo(image: MachineImage) -> dict[int, PoolImage]:
    """The pool of the default size, and what ``Hugetlb`` counts besides."""
    said = image.meminfo_kb
    if "HugePages_Total" not in said:
        image.assumptions.append("No file shows huge pages: the pools are taken as empty.")
        return {}
    counts = [said.get(f"HugePages_{name}", 0) for name in ("Total", "Free", "Rsvd", "Surp")]
    if any(count > MAX_PAGES for count in counts[:2]):
        raise BadInput("there are more huge pages than 64 TiB have", where=MEMINFO)
    order, (resv, surplus) = image.default_order, (signed(count, ULONG_MAX) for count in counts[2:])
    pools = {order: PoolImage(order, nr=counts[0], free=counts[1], resv=resv, surplus=surplus)}
    _check_counters(pools[order], MEMINFO)
    other = ORDER_2M if order == ORDER_1G else ORDER_1G
    left, part = divmod(
        said.get("Hugetlb", counts[0] << (order + 2)) - (counts[0] << (order + 2)), 4 << other
    )
    if part or not 0 <= left <= MAX_PAGES:
        raise BadInput(f"Hugetlb is {said['Hugetlb']} kB, which the pools do not add up to", where=MEMINFO)
    if left:
        pools[other] = PoolImage(other, nr=left)
        image.assumptions.append(
            f"Only the line Hugetlb of meminfo shows huge pages of {size_name(other)}: {left}, taken as in use."
        )
    return pools


def _check_default(image: MachineImage, pool: PoolImage, files: Mapping[str, str]) -> None:
    total = image.meminfo_kb.get("HugePages_Total", pool.nr)
    if total != pool.nr:
        detail = (
            f"HugePages_Total is {total}, but nr_hugepages of {size_name(pool.order)} is {pool.nr}: {AGAIN}"
        )
        raise BadInput(detail, where=MEMINFO)
    agreed = value(files, f"{SYSCTL}/nr_hugepages", ULONG_MAX)
    if agreed is not None:
        pool.max = signed(agreed, ULONG_MAX)


# -- by node ---------------------------------------------------------------------------------------------


def _add_nodes(files: Mapping[str, str], pools: dict[int, PoolImage]) -> None:
    for path in files:
        match = _NODE_POOL_FILE.fullmatch(path)
        if match is None:
            continue
        pool = pools.get(_order(path, match[2]))
        if pool is None:
            folder = f"{POOLS}/hugepages-{match[2]}"
            raise BadInput("the node has pages of this size, but the folder is missing", where=folder)
        folder = path.rpartition("/")[0]
        nr, free, surplus = (_counter(files, f"{folder}/{name}", name, UINT_MAX) for name in _COUNTERS)
        if free > nr:
            raise BadInput(f"{free} free huge pages of {nr}", where=f"{folder}/free_hugepages:1")
        pool.nodes[node_in_path(path, match[1])] = PoolOfNode(nr, free, surplus)


def _spread(image: MachineImage, pool: PoolImage, files: Mapping[str, str]) -> None:
    """How a pool is split between the nodes, where their folders do not say it."""
    nids = image.memory_nodes()
    if pool.nodes or pool.nr == 0:
        return
    if len(nids) == 1:
        pool.nodes[nids[0]] = PoolOfNode(pool.nr, pool.free, pool.surplus)
    elif pool.order == image.default_order and all(f"{NODES}/node{nid}/meminfo" in files for nid in nids):
        pool.nodes = {nid: _of_node_meminfo(files, nid) for nid in nids}
    else:
        _split(image, pool, nids)


def _of_node_meminfo(files: Mapping[str, str], nid: int) -> PoolOfNode:
    path = f"{NODES}/node{nid}/meminfo"
    said = parse_node_meminfo(path, files[path], nid)
    nr, free, surplus = (said.get(name, 0) for name in _OF_MEMINFO)
    if max(nr, free) > MAX_PAGES or free > nr:
        raise BadInput(f"{free} free huge pages of {nr}", where=path)
    return PoolOfNode(nr, free, signed(surplus, UINT_MAX))


def _split(image: MachineImage, pool: PoolImage, nids: list[int]) -> None:
    """As the kernel fills a pool: by node as its command line says, else one page a node in turn while it has room."""
    room = [max(0, image.used_pages(nid) >> pool.order) for nid in nids]
    asked = _of_cmdline(image, pool)
    by_cmdline = sum(asked.get(nid, 0) for nid in nids) == pool.nr
    taken = [asked.get(nid, 0) for nid in nids] if by_cmdline else shares(pool.nr, room)
    if sum(taken) < pool.nr:
        raise BadInput(
            f"{pool.nr} huge pages of {size_name(pool.order)} are more than the memory in use of the nodes holds",
            where=MEMINFO,
        )
    free, surplus = shares(pool.free, taken), shares(max(0, pool.surplus), taken)
    surplus[0] += min(0, pool.surplus)
    rows = zip(nids, taken, free, surplus, strict=True)
    pool.nodes = {nid: PoolOfNode(*counts) for nid, *counts in rows}
    split = ", ".join(f"{nr} on node {nid}" for nid, nr in zip(nids, taken, strict=True))
    how = "as the command line asks for" if by_cmdline else "evenly, as the kernel fills a pool"
    image.assumptions.append(
        f"No file says which node has the {pool.nr} huge pages of {size_name(pool.order)}: they are split {how}: "
        f"{split}."
    )


def _of_cmdline(image: MachineImage, pool: PoolImage) -> dict[int, int]:
    params = parse_cmdline(image.cmdline, profile_of(image.kernel), default_on=False)
    asked = params.hugepages.get(pool.order, 0)
    return asked if isinstance(asked, dict) else {}


def shares(count: int, room: list[int]) -> list[int]:
    """``count`` things dealt out one by one to places in turn, each up to its room; fewer where all are full.

    >>> shares(10, [2, 9, 9])
    [2, 4, 4]
    """
    given = [0] * len(room)
    left = min(count, sum(room))
    while left:
        open_places = [i for i, place in enumerate(room) if given[i] < place]
        each = min(left // len(open_places), *(room[i] - given[i] for i in open_places))
        for i in open_places if each else open_places[:left]:
            given[i] += each or 1
            left -= each or 1
    return given
