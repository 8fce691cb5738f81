"""A real machine from its files: ``read_machine`` makes a ``MachineImage`` or says which line is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hugepool.fs.carried import carried_fields
from hugepool.fs.consistency import (
    BUDDYINFO,
    MEMINFO,
    ZONEINFO,
    check_blocks,
    check_layout,
    check_total,
    check_type_blocks,
    check_zone,
)
from hugepool.fs.foreign import check_architecture, check_page_size, default_order, is_modelled
from hugepool.fs.kernels import choose_kernel
from hugepool.fs.page_cache import add_cache
from hugepool.fs.pagetypeinfo import TypesText, parse_pagetypeinfo
from hugepool.fs.paths import checked
from hugepool.fs.pools import add_pools
from hugepool.fs.procfs import (
    ZoneText,
    parse_buddyinfo,
    parse_counters,
    parse_meminfo,
    parse_zoneinfo,
)
from hugepool.fs.sketch import read_meminfo_only
from hugepool.fs.sysfs import BlockFiles, NodeFiles, read_blocks, read_nodes
from hugepool.fs.textfile import MAX_PAGES, single, value
from hugepool.mm.boot.image import MachineImage, ZoneImage
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import NR_ORDERS, pages_by_order, size_name

SYSCTL = "/proc/sys/vm"
PAGETYPEINFO = "/proc/pagetypeinfo"
REQUIRED = (MEMINFO, ZONEINFO, BUDDYINFO)
MAX_MIN_FREE_KB = 1 << 31
HOW_TO_COLLECT = (
    "collect with hugepool import or with the script that GET /collect.sh serves, which read with cat"
)


@dataclass(slots=True)
class _Parsed:
    """The files that zones come from, parsed."""

    meminfo: dict[str, int]
    zones: list[ZoneText]
    buddy: dict[tuple[int, str], list[int]]
    types: TypesText
    blocks: BlockFiles


def read_machine(given: Mapping[str, str], kernel: str | None = None) -> MachineImage:
    """Read a machine from the texts of its files.

    Args:
        given: absolute path -> text.  meminfo, zoneinfo and buddyinfo of /proc are needed, or meminfo alone, which
            gives a machine that only matches it; other paths of ``paths.RELEVANT`` are used when given, the rest is
            ignored.
        kernel: a profile name; None takes the nearest one that the files suggest.

    Raises:
        BadInput: ``where`` is ``path:line``; something is missing, malformed, impossible or contradictory.
    """
    files = checked(given)
    check_architecture(files)
    if MEMINFO in files and not {ZONEINFO, BUDDYINFO} & given.keys():
        return read_meminfo_only(files, kernel)
    for path in REQUIRED:
        if path not in files:
            raise BadInput(_why_missing(path, given), where=path)
    parsed = _Parsed(
        meminfo=parse_meminfo(MEMINFO, files[MEMINFO]),
        zones=parse_zoneinfo(ZONEINFO, files[ZONEINFO]),
        buddy=parse_buddyinfo(BUDDYINFO, files[BUDDYINFO]),
        types=parse_pagetypeinfo(PAGETYPEINFO, files.get(PAGETYPEINFO, "")),
        blocks=read_blocks(files),
    )
    chosen = choose_kernel(files, parsed.zones, kernel)
    order = default_order(parsed.meminfo)
    image = MachineImage(
        kernel=chosen.name,
        cmdline=files.get("/proc/cmdline", "").strip(),
        zones=_zones(parsed, _check_meminfo(files, parsed)),
        pools=[],
        meminfo_kb=parsed.meminfo,
        default_order=order,
        vmstat=parse_counters("/proc/vmstat", files.get("/proc/vmstat", "")),
        assumptions=[chosen.note] if chosen.note else [],
    )
    check_total(image.meminfo_kb["MemTotal"], image.zones, MEMINFO)
    if image.meminfo_kb["MemFree"] > image.meminfo_kb["MemTotal"]:
        raise BadInput("MemFree is above MemTotal", where=MEMINFO)
    check_type_blocks(image)
    _add_settings(image, files)
    add_pools(image, files)
    _add_nodes_and_blocks(image, files, parsed)
    _add_assumptions(image, files)
    add_cache(image, parsed.zones)
    image.carried = carried_fields(files, image, parsed.zones, parsed.types)
    return image


def _why_missing(path: str, given: Mapping[str, str]) -> str:
    needed = "an import needs meminfo, zoneinfo and buddyinfo of /proc"
    if path not in given:
        return f"the file is missing; {needed}"
    return f"the file is empty, as tar and cp leave files of /proc, whose size reads 0; {needed}: {HOW_TO_COLLECT}"


def _check_meminfo(files: Mapping[str, str], parsed: _Parsed) -> list[ZoneText]:
    """The zones that are modelled, once MemTotal and MemFree go with them.

    Raises:
        BadInput: naming the line of MemTotal.
    """
    for name in ("MemTotal", "MemFree"):
        if name not in parsed.meminfo:
            raise BadInput(f"there is no line {name}", where=f"{MEMINFO}:1")
    line = next(n for n, text in enumerate(files[MEMINFO].split("\n"), 1) if text.startswith("MemTotal:"))
    check_page_size(parsed.zones, parsed.meminfo["MemTotal"], f"{MEMINFO}:{line}")
    return [zone for zone in parsed.zones if is_modelled(zone)]


# -- zones -----------------------------------------------------------------------------------------------


def _zones(parsed: _Parsed, known: Sequence[ZoneText]) -> list[ZoneImage]:
    if not any(zone.levels["present"] for zone in known):
        raise BadInput("no zone has any memory", where=f"{ZONEINFO}:1")
    for key in parsed.buddy.keys() - {(zone.nid, zone.name) for zone in known}:
        raise BadInput(f"zone {key[1]} of node {key[0]} is not in {ZONEINFO}", where=BUDDYINFO)
    check_layout(known, parsed.blocks.blocks)
    if sum(zone.levels["present"] for zone in known) > MAX_PAGES:
        raise BadInput("the zones have more than 64 TiB", where=f"{ZONEINFO}:1")
    return [_zone(zone, parsed) for zone in known]


def _zone(zone: ZoneText, parsed: _Parsed) -> ZoneImage:
    level, key = zone.levels, (zone.nid, zone.name)
    free_area = parsed.buddy.get(key)
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
        type_blocks=parsed.types.blocks.get(key),
        free_by_type=parsed.types.free.get(key),
    )


# -- settings --------------------------------------------------------------------------------------------


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


# -- nodes and blocks ------------------------------------------------------------------------------------


def _add_nodes_and_blocks(image: MachineImage, files: Mapping[str, str], parsed: _Parsed) -> None:
    nodes, blocks = read_nodes(files), parsed.blocks
    image.node_cpus = nodes.cpus or _guess_cpus(image, nodes, parsed.zones)
    image.distance = nodes.distance
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


# -- assumptions -----------------------------------------------------------------------------------------


def _add_assumptions(image: MachineImage, files: Mapping[str, str]) -> None:
    """Say what no file has and what is taken instead."""
    several = len(image.node_cpus) > 1
    switch = image.optimize_enabled is None and "hugetlb_free_vmemmap" not in image.cmdline
    found = {
        "There is no pagetypeinfo (only root can read it): pageblocks are movable, but for those of the kernel.":
            PAGETYPEINFO not in files,
        "No memory blocks were collected: memory lies at the start of each zone, in blocks of 128 MiB, all online.":
            not image.blocks,
        "No file says whether huge pages give their vmemmap back: it is taken as off.": switch,
        "No cpulist was collected: the processors are dealt out to the nodes in equal runs.":
            several and not any(path.endswith("/cpulist") for path in files),
        "No distances were collected: other nodes are 20 away.": several and not image.distance,
        "min_free_kbytes was not collected: it is what the zones' min watermarks add up to.":
            image.min_free_kbytes is None,
        **{_underflow(name): count < 0 for name, count in _may_underflow(image)},
    }  # fmt: skip
    image.assumptions += [sentence for sentence, holds in found.items() if holds]


def _may_underflow(image: MachineImage) -> Iterator[tuple[str, int]]:
    for pool in image.pools:
        yield f"{pool.resv} reserved huge pages of {size_name(pool.order)}", pool.resv
        yield f"{pool.surplus} surplus huge pages of {size_name(pool.order)}", pool.surplus


def _underflow(what: str) -> str:
    return f"There are {what}: the counter went below zero, a defect of the machine's kernel; it is kept."
