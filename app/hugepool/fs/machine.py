"""A real machine from its files: ``read_machine`` makes a ``MachineImage`` or says which line is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hugepool.fs.carried import carried_fields
from hugepool.fs.consistency import (
    BUDDYINFO,
    MEMINFO,
    ZONEINFO,
    check_blocks,
    check_layout,
    check_pool,
    check_pools_fit,
    check_total,
    check_type_blocks,
    check_zone,
)
from hugepool.fs.paths import check_files
from hugepool.fs.procfs import (
    MIGRATE_NAMES,
    ZoneText,
    free_lists,
    parse_buddyinfo,
    parse_counters,
    parse_meminfo,
    parse_pagetypeinfo,
    parse_version,
    parse_zoneinfo,
)
from hugepool.fs.sysfs import POOLS, NodeFiles, check_counters, read_blocks, read_nodes, read_pools, signed
from hugepool.fs.textfile import MAX_PAGES, single, value
from hugepool.mm.boot.image import MachineImage, PoolImage, ZoneImage
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import ZONE_NAMES
from hugepool.mm.machine.profile import PROFILES, KernelProfile, profile_of
from hugepool.mm.machine.units import NR_ORDERS, ULONG_MAX, order_of, pages_by_order, size_name

SYSCTL = "/proc/sys/vm"
REQUIRED = (MEMINFO, ZONEINFO, BUDDYINFO)
MAX_MIN_FREE_KB = 1 << 31
NO_LIST = [0] * NR_ORDERS


@dataclass(slots=True)
class _Parsed:
    """The required files, parsed."""

    meminfo: dict[str, int]
    zones: list[ZoneText]
    buddy: dict[tuple[int, str], list[int]]
    vmstat: dict[str, int]


def read_machine(files: Mapping[str, str], kernel: str | None = None) -> MachineImage:
    """Read a machine from the texts of its files.

    Args:
        files: absolute path -> text.  meminfo, zoneinfo and buddyinfo of /proc are needed; other paths of
            ``paths.RELEVANT`` are used when given, the rest is ignored.
        kernel: a profile name; None takes the nearest one that the files suggest.

    Raises:
        BadInput: ``where`` is ``path:line``; something is missing, malformed, impossible or contradictory.
    """
    check_files(files)
    for path in REQUIRED:
        if path not in files:
            raise BadInput("the file is missing; an import needs meminfo, zoneinfo and buddyinfo", where=path)
    parsed = _Parsed(
        meminfo=parse_meminfo(MEMINFO, files[MEMINFO]),
        zones=parse_zoneinfo(ZONEINFO, files[ZONEINFO]),
        buddy=parse_buddyinfo(BUDDYINFO, files[BUDDYINFO]),
        vmstat=parse_counters("/proc/vmstat", files.get("/proc/vmstat", "")),
    )
    image = MachineImage(
        kernel=profile_of(kernel).name if kernel is not None else infer_kernel(files, parsed.zones),
        cmdline=files.get("/proc/cmdline", "").strip(),
        zones=_zones(parsed, files),
        pools=[],
        meminfo_kb=parsed.meminfo,
        default_order=_default_order(parsed.meminfo),
        vmstat=parsed.vmstat,
    )
    _check_meminfo(files, image)
    _add_settings(image, files)
    _add_pools(image, files)
    _add_nodes_and_blocks(image, files, parsed.zones)
    image.carried = carried_fields(files, image, parsed.zones)
    return image


def infer_kernel(files: Mapping[str, str], zones: Sequence[ZoneText]) -> str:
    """The nearest profile: by /proc/version the newest that is no newer, else the oldest with all that is shown."""
    known = list(PROFILES.values())
    if "/proc/version" in files:
        version = parse_version("/proc/version", files["/proc/version"])
        return max(known, key=lambda profile: (profile.first_version <= version, profile.first_version)).name
    return next((profile for profile in known if _has_all(profile, files, zones)), known[-1]).name


def _has_all(profile: KernelProfile, files: Mapping[str, str], zones: Sequence[ZoneText]) -> bool:
    """Whether a kernel can have shown these files: newer ones have files and counters that it lacks."""
    vmstat = set(files.get("/proc/vmstat", "").split())
    counters = {other.first_counter for other in PROFILES.values()} & vmstat
    return (
        (profile.sysctl_optimize or f"{SYSCTL}/hugetlb_optimize_vmemmap" not in files)
        and (profile.demote or not any("/demote" in path for path in files))
        and (profile.device_zone or all(len(zone.protection) < 5 for zone in zones))
        and counters <= set(profile.lines.vmstat)
    )


# -- zones -----------------------------------------------------------------------------------------------


def _zones(parsed: _Parsed, files: Mapping[str, str]) -> list[ZoneImage]:
    pagetypeinfo = files.get("/proc/pagetypeinfo", "")
    types = parse_pagetypeinfo("/proc/pagetypeinfo", pagetypeinfo)
    lists = free_lists(pagetypeinfo)
    known = [zone for zone in parsed.zones if _is_modelled(zone)]
    if not any(zone.levels["present"] for zone in known):
        raise BadInput("no zone has any memory", where=f"{ZONEINFO}:1")
    for key in parsed.buddy.keys() - {(zone.nid, zone.name) for zone in known}:
        raise BadInput(f"zone {key[1]} of node {key[0]} is not in {ZONEINFO}", where=BUDDYINFO)
    check_layout(known)
    if sum(zone.levels["present"] for zone in known) > MAX_PAGES:
        raise BadInput("the zones have more than 64 TiB", where=f"{ZONEINFO}:1")
    keys = [(zone.nid, zone.name) for zone in known]
    return [
        _zone(zone, parsed.buddy, types.get(key), lists.get(key))
        for key, zone in zip(keys, known, strict=True)
    ]


def _is_modelled(zone: ZoneText) -> bool:
    if zone.name in ZONE_NAMES:
        return True
    if zone.levels["present"] or zone.levels["spanned"]:
        zone.line.fail(
            f"zone {zone.name} of node {zone.nid} has memory; hugepool knows {', '.join(ZONE_NAMES)}"
        )
    return False


def _zone(
    zone: ZoneText,
    buddy: dict[tuple[int, str], list[int]],
    types: list[int] | None,
    lists: Mapping[str, list[int]] | None,
) -> ZoneImage:
    level = zone.levels
    free_area = buddy.get((zone.nid, zone.name))
    if free_area is None:
        if level["present"]:
            zone.line.fail(f"zone {zone.name} of node {zone.nid} has memory but no line in {BUDDYINFO}")
        free_area = [0] * NR_ORDERS
    free = pages_by_order(free_area)
    check_zone(zone, free)
    return ZoneImage(
        nid=zone.nid,
        name=zone.name,
        start_pfn=zone.start_pfn if level["present"] else 0,
        spanned=level["spanned"],
        present=level["present"],
        managed=level["managed"],
        free=free,
        min=level["min"],
        low=level["low"],
        high=level["high"],
        protection=zone.protection[:4],
        cma=level.get("cma", 0),
        pcp=min(zone.pcp, level["managed"] - free),
        free_area=free_area,
        type_blocks=types,
        free_by_type=None if lists is None else [lists.get(name, NO_LIST) for name in MIGRATE_NAMES],
    )


# -- settings and pools ----------------------------------------------------------------------------------


def _default_order(meminfo: dict[str, int]) -> int:
    size = meminfo.get("Hugepagesize")
    if size is None:
        return 9
    order = order_of(f"{size}kB")
    if order is None:
        raise BadInput(f"Hugepagesize is {size} kB; x86-64 has 2048 and 1048576", where=MEMINFO)
    return order


def _check_meminfo(files: Mapping[str, str], image: MachineImage) -> None:
    for name in ("MemTotal", "MemFree"):
        if name not in image.meminfo_kb:
            raise BadInput(f"there is no line {name}", where=f"{MEMINFO}:1")
    line = next(n for n, text in enumerate(files[MEMINFO].split("\n"), 1) if text.startswith("MemTotal:"))
    check_total(image.meminfo_kb["MemTotal"], image.zones, line)
    if image.meminfo_kb["MemFree"] > image.meminfo_kb["MemTotal"]:
        raise BadInput("MemFree is above MemTotal", where=f"{MEMINFO}:{line}")
    check_type_blocks(image)


def _add_settings(image: MachineImage, files: Mapping[str, str]) -> None:
    image.min_free_kbytes = value(files, f"{SYSCTL}/min_free_kbytes", MAX_MIN_FREE_KB)
    factor = value(files, f"{SYSCTL}/watermark_scale_factor", 3000)
    if factor is not None:
        image.watermark_scale_factor = factor
    ratio = single(files, f"{SYSCTL}/lowmem_reserve_ratio")
    if ratio is not None:
        words = ratio.text.split()
        if len(words) not in {4, 5}:
            ratio.fail(f"{len(words)} numbers; x86-64 has 4, or 5 with a Device zone")
        image.lowmem_reserve_ratio = [ratio.count(word, "a ratio", 1 << 31) for word in words[:4]]
    optimize = value(files, f"{SYSCTL}/hugetlb_optimize_vmemmap", 1)
    image.optimize_enabled = None if optimize is None else bool(optimize)


def _add_pools(image: MachineImage, files: Mapping[str, str]) -> None:
    pools = read_pools(files)
    if not pools and "HugePages_Total" in image.meminfo_kb:
        pools = {image.default_order: _pool_of_meminfo(image)}
    nids = sorted({zone.nid for zone in image.zones if zone.present})
    for order, pool in pools.items():
        folder = f"{POOLS}/hugepages-{size_name(order)}"
        _spread(pool, nids)
        check_pool(pool, nids, folder)
        pool.max = pool.nr - pool.surplus
        if order == image.default_order:
            _check_default_pool(image, pool, files)
    image.pools = [pools[order] for order in sorted(pools)]
    check_pools_fit(image)


def _pool_of_meminfo(image: MachineImage) -> PoolImage:
    counts = [image.meminfo_kb.get(f"HugePages_{name}", 0) for name in ("Total", "Free", "Rsvd", "Surp")]
    if any(count > MAX_PAGES for count in counts[:3]):
        raise BadInput("there are more huge pages than 64 TiB have", where=MEMINFO)
    surplus = signed(counts[3], ULONG_MAX)
    pool = PoolImage(image.default_order, nr=counts[0], free=counts[1], resv=counts[2], surplus=surplus)
    check_counters(pool, MEMINFO)
    return pool


def _spread(pool: PoolImage, nids: list[int]) -> None:
    if pool.nodes or pool.nr == 0:
        return
    if len(nids) > 1:
        path = (
            f"/sys/devices/system/node/node{nids[0]}/hugepages/hugepages-{size_name(pool.order)}/nr_hugepages"
        )
        detail = f"the file is missing, and without it nobody knows which node has the {pool.nr} huge pages"
        raise BadInput(detail, where=path)
    pool.nodes[nids[0]] = (pool.nr, pool.free, pool.surplus)


def _check_default_pool(image: MachineImage, pool: PoolImage, files: Mapping[str, str]) -> None:
    total = image.meminfo_kb.get("HugePages_Total", pool.nr)
    if total != pool.nr:
        detail = f"HugePages_Total is {total}, but nr_hugepages of {size_name(pool.order)} is {pool.nr}"
        raise BadInput(detail, where=MEMINFO)
    agreed = value(files, f"{SYSCTL}/nr_hugepages", ULONG_MAX)
    if agreed is not None:
        pool.max = signed(agreed, ULONG_MAX)


# -- nodes and blocks ------------------------------------------------------------------------------------


def _add_nodes_and_blocks(image: MachineImage, files: Mapping[str, str], zones: Sequence[ZoneText]) -> None:
    nodes = read_nodes(files)
    image.node_cpus = nodes.cpus or _guess_cpus(image, nodes, zones)
    image.distance = nodes.distance
    blocks = read_blocks(files)
    image.block_pages = blocks.block_pages
    image.blocks = blocks.blocks
    image.auto_online_blocks = blocks.auto_online
    check_blocks(image)


def _guess_cpus(image: MachineImage, nodes: NodeFiles, zones: Sequence[ZoneText]) -> dict[int, list[int]]:
    """Without cpulist files: the CPUs of the page sets, dealt out to the nodes in equal runs."""
    cpus = sorted({cpu for zone in zones for cpu in zone.cpus})
    nids = sorted({zone.nid for zone in image.zones} | nodes.nids)
    share = -(-len(cpus) // len(nids)) if cpus else 0
    return {nid: cpus[i * share : (i + 1) * share] for i, nid in enumerate(nids)}
