"""Making a host of a real machine's files: the same counters, and the same buddyinfo cell by cell.

The files say how many free blocks of each order a zone has, not where: any placement in which no two free
buddies meet is as good, so pages are placed lowest first by one rule.  The rest follows from arithmetic:
present - managed is reserved memory (the vmemmap first), managed - free is in use.
"""

from hugepool.mm.boot.cma_areas import adopt_areas
from hugepool.mm.boot.cmdline import BootParams, parse_cmdline
from hugepool.mm.boot.early_vmemmap import count_early
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.boot.import_free import fill_zone, lag_of_types
from hugepool.mm.boot.import_hugepages import adopt_pools, optimize_imported, place_huge_pages, place_vmemmap
from hugepool.mm.boot.import_zones import build_nodes, claim_memory, nr_sections
from hugepool.mm.boot.layout import type_boot_memory
from hugepool.mm.boot.sketch import host_like
from hugepool.mm.kernel import hugetlbfs
from hugepool.mm.kernel.memory_hotplug import zone_of_block
from hugepool.mm.kernel.pcp import adopt_lists
from hugepool.mm.kernel.pcp_sizes import set_limits
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import ZONE_NAMES, MemoryMap, Node, Use
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import KB_PER_PAGE, SECTION_PAGES


def restore_machine(image: MachineImage, call: Call) -> Host:
    """A host that renders the machine's own MemTotal, MemFree, buddyinfo, watermarks and counters again.

    Raises:
        BadInput: the files contradict each other in a way that no placement can satisfy.
        TooLarge: the machine is beyond what is modelled.
    """
    if image.spec is not None:
        call.emit(Event.MACHINE_IMPORTED, kernel=image.kernel, nodes=len(image.spec.nodes))
        return host_like(image, image.spec, call)
    profile = profile_of(image.kernel)
    mem = MemoryMap(nr_sections(image), profile.reserved_vmemmap_pages)
    nodes = build_nodes(image, mem)
    host = Host(image.kernel, image.cmdline, profile, 0, nodes, mem, image.block_pages or SECTION_PAGES)
    host.last_tick_ns = call.now_ns
    params = parse_cmdline(image.cmdline, profile, default_on=False)
    _take_over_tunables(host, image, params)
    budgets = claim_memory(image, mem, nodes)
    adopt_areas(host, budgets, params)
    placed = place_huge_pages(host, image, budgets, count_early(host, params))
    place_vmemmap(host, budgets, placed)
    if profile.deferred_init:
        type_boot_memory(mem, nodes, (Use.BOOT_VMEMMAP,))
    optimize_imported(host, budgets, placed)
    for budget in budgets:
        fill_zone(host, budget)
    set_limits(host.zones)
    for zone in host.zones:
        if zone.nr_pcp:
            adopt_lists(host, zone)
    adopt_pools(host, placed)
    _take_over_watermarks(image, nodes)
    mem.order.reset()
    hugetlbfs.mount_default(host)
    _keep_differences(host, image, lag_of_types(host, budgets))
    call.emit(Event.MACHINE_IMPORTED, kernel=image.kernel, nodes=len(nodes))
    return host


def _keep_differences(host: Host, image: MachineImage, types: dict[str, dict[str, list[list[int]]]]) -> None:
    """What the files say and the placed pages do not: kept, so that the host shows it."""
    host.carried["lag"] = {**host.carried.get("lag", {}), "pagetypeinfo": types}
    host.carried["blocks_without_zone"] = [
        number
        for number, (state, zones, _nid) in sorted(image.blocks.items())
        if state == "online" and zones == "none" and zone_of_block(host, number) is not None
    ]


def _take_over_tunables(host: Host, image: MachineImage, params: BootParams) -> None:
    host.default_order = image.default_order
    host.watermark_scale_factor = image.watermark_scale_factor
    host.lowmem_reserve_ratio = list(image.lowmem_reserve_ratio[:4])
    known = image.optimize_enabled
    host.optimize_enabled = params.free_vmemmap if known is None else known
    host.auto_online_blocks = image.auto_online_blocks
    host.movable_node, host.thp = params.movable_node, params.thp
    excluded = host.optimize_enabled and host.profile.memmap_on_memory_excluded
    host.memmap_on_memory = params.memmap_on_memory and not excluded
    host.carried = dict(image.carried)
    host.counters = dict(image.vmstat)
    total = sum(zone.min for zone in image.zones)
    host.min_free_kbytes = image.min_free_kbytes if image.min_free_kbytes is not None else total * KB_PER_PAGE


def _take_over_watermarks(image: MachineImage, nodes: list[Node]) -> None:
    for z in image.zones:
        zone = nodes[z.nid].zones[ZONE_NAMES.index(z.name)]
        zone.min, zone.low, zone.high, zone.cma = z.min, z.low, z.high, z.cma
        zone.lowmem_reserve = (list(z.protection[:4]) + [0] * 4)[:4]
