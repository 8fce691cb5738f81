"""Booting a host from a spec.

The layout follows the kernel; the size of what the kernel itself takes (image, early allocations, slab of a
bare system) is a constant per profile, measured on the recorded guests.
"""

import numpy as np

from hugepool.mm.boot import layout
from hugepool.mm.boot.cma_areas import reserve_areas
from hugepool.mm.boot.cmdline import BootParams, parse_cmdline
from hugepool.mm.boot.early_vmemmap import is_early, populate_early
from hugepool.mm.boot.layout import FIRMWARE_HOLES, FIRMWARE_TOP, KERNEL_START, NodeLayout
from hugepool.mm.boot.spec import HostSpec, check_spec
from hugepool.mm.kernel import hugetlb, hugetlbfs
from hugepool.mm.kernel.cma import gigantic_area
from hugepool.mm.kernel.huge_blocks import type_lone_blocks
from hugepool.mm.kernel.page_alloc import (
    alloc_pages,
    allocatable,
    calculate_min_free_kbytes,
    setup_per_zone_lowmem_reserve,
    zonelist,
)
from hugepool.mm.kernel.watermarks import setup_wmarks
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, ZONE_NORMAL, BlockFlag, MemoryMap, Migrate, Use
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import (
    BLOCKS_PER_1G,
    DMA32_END,
    KB_PER_PAGE,
    ORDER_1G,
    ORDER_2M,
    PAGE_SIZE,
    PAGEBLOCK_PAGES,
    SECTION_PAGES,
    pretty_size,
)

EARLY_PAGES = 1440  # page tables, per-CPU areas, node data, ... of a small machine, at the top of memory
SWIOTLB_PAGES = 16384  # 64 MiB below 4 GiB when there is memory above
SYSTEM_PAGES = 3400  # slab, stacks and first processes of a bare system
LOW_RESERVED = range(1, 0x9F)  # real-mode memory
NOTHING_LEFT_PAGES = 4096  # a pool that leaves less deadlocks the boot


def boot(spec: HostSpec, call: Call) -> Host:
    """Boot a machine.

    Raises:
        BadInput: an impossible spec, or a pool that leaves the system without memory (a real kernel panics
            there: ``System is deadlocked on memory``).
    """
    check_spec(spec)
    profile = profile_of(spec.kernel)
    params = parse_cmdline(spec.cmdline, profile, default_on=spec.default_on)
    layouts = _layouts(spec, params)
    end = max(node.end for node in layouts if node.ranges)
    mem = MemoryMap(-(-end // SECTION_PAGES), profile.reserved_vmemmap_pages)
    nodes = layout.build_nodes(layouts, mem)
    layout.populate(layouts, nodes, mem)
    host = Host(spec.kernel, spec.cmdline, profile, spec.seed, nodes, mem, _block_pages(spec, end))
    host.last_tick_ns = call.now_ns
    host.movable_node, host.memmap_on_memory, host.thp = (
        params.movable_node,
        params.memmap_on_memory,
        params.thp,
    )
    host.auto_online_blocks = params.auto_online_blocks
    _reserve_boot_memory(host, layouts)
    _enable_vmemmap(host, spec, params, call)
    reserve_areas(host, call, params)
    host.hugetlb_cma_only = params.hugetlb_cma_only and any(
        gigantic_area(host, n) for n in host.memory_nodes()
    )
    gigantic = _boot_gigantic_pages(host, params)
    _settle_watermarks(host, thp=False)  # khugepaged raises them only after the pools are filled
    mem.order.reset()
    zones = zonelist(nodes, 0, ZONE_NORMAL)
    alloc_pages(host, zones, SYSTEM_PAGES, Migrate.UNMOVABLE, ZONE_NORMAL, Use.SYSTEM)
    for zone in (zone for zone in host.zones if zone.type != ZONE_MOVABLE):
        type_lone_blocks(host.mem, zone, 0)
    _register_hstates(host, params, call)
    _fill_pools(host, params, gigantic, call)
    _settle_watermarks(host, thp=params.thp)
    if spec.min_free_kbytes:
        host.min_free_kbytes = host.user_min_free_kbytes = spec.min_free_kbytes
        setup_wmarks(host)
    _check_memory_left(host, params)
    hugetlbfs.mount_default(host)
    return host


def _layouts(spec: HostSpec, params: BootParams) -> list[NodeLayout]:
    layouts = layout.spread([node.memory_bytes // PAGE_SIZE for node in spec.nodes])
    cpu = 0
    for node, wanted in zip(layouts, spec.nodes, strict=True):
        node.cpus = list(range(cpu, cpu + wanted.cpus))
        cpu += wanted.cpus
        node.movable_only = wanted.movable or (wanted.hotplug and params.movable_node and node.nid > 0)
    if not (params.movable_node or any(node.movable for node in spec.nodes)):
        populated = [node for node in layouts if node.ranges]
        total = sum(node.pages for node in populated)
        layout.find_zone_movable(
            populated, _pages(params.kernelcore, total), _pages(params.movablecore, total)
        )
    return layouts


def _pages(size: int | None, total: int) -> int | None:
    """Bytes, or a negative percentage, as pages."""
    if size is None:
        return None
    return total * -size // 100 if size < 0 else size // PAGE_SIZE


def _block_pages(spec: HostSpec, end_pfn: int) -> int:
    """Memory block size: 128 MiB below 64 GiB, 2 GiB on larger bare metal.

    Source: arch/x86/mm/init_64.c probe_memory_block_size() (5.14).
    """
    if spec.memory_block_size is not None:
        return spec.memory_block_size // PAGE_SIZE
    return SECTION_PAGES if end_pfn < (64 << 30) // PAGE_SIZE else (2 << 30) // PAGE_SIZE


def _reserve_boot_memory(host: Host, layouts: list[NodeLayout]) -> None:
    mem = host.mem
    for start, end in FIRMWARE_HOLES:
        layout.punch_hole(mem, host.zones, start, end)
    low_end = max(end for node in layouts for _, end in node.ranges if end <= DMA32_END)
    layout.punch_hole(mem, host.zones, low_end - FIRMWARE_TOP, low_end)
    mem.assign_pages(np.array(LOW_RESERVED), Use.RESERVED)
    image = np.arange(KERNEL_START, KERNEL_START + host.profile.kernel_image_pages)
    mem.assign_pages(image, Use.RESERVED)
    if max(node.end for node in layouts if node.ranges) > DMA32_END:
        low_end -= FIRMWARE_TOP
        mem.assign_pages(np.arange(low_end - SWIOTLB_PAGES, low_end), Use.RESERVED)
    for node in layouts:
        if not node.ranges:
            continue
        top = EARLY_PAGES if node.end > DMA32_END or len(layouts) == 1 else FIRMWARE_TOP
        _reserve_early(mem, node, top)
        layout.place_boot_vmemmap(mem, node)
    if host.profile.deferred_init:
        layout.type_boot_memory(mem, host.nodes, (Use.BOOT_VMEMMAP, Use.RESERVED, Use.MIXED))


def _reserve_early(mem: MemoryMap, node: NodeLayout, pages: int) -> None:
    """Take early memory from the top of a node, as far as its ranges go."""
    for start, end in reversed(node.ranges):
        top = end - (FIRMWARE_TOP if end <= DMA32_END else 0)
        taken = min(pages, top - start)
        mem.assign_pages(np.arange(top - taken, top), Use.RESERVED)
        pages -= taken


def _enable_vmemmap(host: Host, spec: HostSpec, params: BootParams, call: Call) -> None:
    crosses = spec.struct_page_size & (spec.struct_page_size - 1) != 0
    host.vmemmap_supported = not crosses
    asked = params.free_vmemmap
    if crosses and "hugetlb_free_vmemmap=" in spec.cmdline and host.profile.crossing_text:
        params.lines.append(host.profile.crossing_text)
    call.printk(f"Command line: {spec.cmdline}")
    host.optimize_enabled = asked and not crosses
    if host.optimize_enabled and host.profile.memmap_on_memory_excluded:
        host.memmap_on_memory = False
    for line in params.lines:
        call.printk(line)


def _settle_watermarks(host: Host, *, thp: bool) -> None:
    for raised in (False, thp):
        host.min_free_kbytes = calculate_min_free_kbytes(host.nodes, thp=raised)
        setup_wmarks(host)
    setup_per_zone_lowmem_reserve(host.nodes, host.lowmem_reserve_ratio)


def add_hstates(host: Host) -> None:
    """Create the two huge page sizes of x86-64, 1 GiB first as its console lines come first."""
    for order in (ORDER_1G, ORDER_2M):
        usable = host.vmemmap_supported and (host.optimize_enabled or host.profile.sysctl_optimize)
        pages = host.profile.freeable_vmemmap_pages(order) if usable else 0
        first = host.memory_nodes()[0]
        host.hstates[order] = HState(
            order, pages, len(host.nodes), next_nid_to_alloc=first, next_nid_to_free=first
        )


def _register_hstates(host: Host, params: BootParams, call: Call) -> None:
    host.default_order = params.default_order
    add_hstates(host)
    if host.profile.announces_when_off or not host.optimize_enabled:
        return
    for hs in host.hstates.values():
        call.printk(savings_line(host, hs))


def savings_line(host: Host, hs: HState) -> str:
    """The console line that names what an optimised page of a size gives back."""
    pages = hs.nr_free_vmemmap_pages
    return host.profile.savings_text.format(
        pages=pages, name=hs.size, kib=pages * KB_PER_PAGE, size=pretty_size(hs.order)
    )


def _boot_gigantic_pages(host: Host, params: BootParams) -> dict[int, list[int]]:
    """Take 1 GiB pages from early memory, highest first, round robin over the nodes; blocks per node.

    With areas for such pages none is taken; with ``hugetlb_cma_only`` they come out of the areas, lowest first.
    """
    wanted = params.hugepages.get(ORDER_1G, 0)
    taken: dict[int, list[int]] = {nid: [] for nid in host.memory_nodes()}
    if params.hugetlb_cma and not host.hugetlb_cma_only:
        return taken
    find = _lowest_gib_of_area if host.hugetlb_cma_only else _highest_gib
    while any(_quota(wanted, nid, taken) for nid in taken):
        progress = False
        for nid, blocks in taken.items():
            block = find(host, nid) if _quota(wanted, nid, taken) else None
            if block is not None:
                host.mem.assign_blocks(np.arange(block, block + BLOCKS_PER_1G), Use.HUGETLB)
                blocks.append(block)
                progress = True
        if not progress:
            break
    return taken


def _quota(wanted: int | dict[int, int], nid: int, taken: dict[int, list[int]]) -> bool:
    if isinstance(wanted, dict):
        return len(taken[nid]) < wanted.get(nid, 0)
    return sum(len(blocks) for blocks in taken.values()) < wanted


def _highest_gib(host: Host, nid: int) -> int | None:
    mem = host.mem
    for zone in reversed(host.nodes[nid].zones):
        span = mem.blocks_of(zone)
        for block in range(
            span.stop // BLOCKS_PER_1G * BLOCKS_PER_1G - BLOCKS_PER_1G, span.start - 1, -BLOCKS_PER_1G
        ):
            part = slice(block, block + BLOCKS_PER_1G)
            if (mem.use[part] == Use.BUDDY).all() and (mem.zone[part] == zone.id).all():
                return block
    return None


def _lowest_gib_of_area(host: Host, nid: int) -> int | None:
    """Source: mm/hugetlb_cma.c hugetlb_cma_alloc_bootmem() (6.18)."""
    area = gigantic_area(host, nid)
    if area is None:
        return None
    first = area.base_pfn // PAGEBLOCK_PAGES
    blocks = range(first, first + area.nr_pages // PAGEBLOCK_PAGES, BLOCKS_PER_1G)
    return next((block for block in blocks if host.mem.use[block] == Use.BUDDY), None)


def _fill_pools(host: Host, params: BootParams, gigantic: dict[int, list[int]], call: Call) -> None:
    for order, hs in host.hstates.items():
        wanted = params.hugepages.get(order, 0)
        if hs.gigantic:
            if params.hugetlb_cma and not host.hugetlb_cma_only and wanted:
                call.printk("HugeTLB: hugetlb_cma is enabled, skip boot time allocation")
                wanted = 0
            _add_gigantic(host, hs, gigantic, call)
        else:
            _grow_boot_pool(host, hs, wanted, call)
            if host.profile.alloc_threads_line and wanted and not isinstance(wanted, dict):
                call.printk(_duration_line(host, params))
        _report_short(hs, wanted, call)
        hs.max_huge_pages = hs.nr_huge_pages
        text = host.profile.registered_text
        call.printk(text.format(size=pretty_size(order), count=hs.nr_huge_pages))
        if host.profile.announces_when_off and hs.nr_free_vmemmap_pages:
            call.printk(savings_line(host, hs))


def _duration_line(host: Host, params: BootParams) -> str:
    """The time is left at 0: nothing here takes any.  Source: mm/hugetlb.c hugetlb_pages_alloc_boot() (6.15)."""
    threads = params.alloc_threads or max(1, sum(len(node.cpus) for node in host.nodes) // 4)
    return f"HugeTLB: allocation took 0ms with hugepage_allocation_threads={threads}"


def _add_gigantic(host: Host, hs: HState, gigantic: dict[int, list[int]], call: Call) -> None:
    rounds = max((len(blocks) for blocks in gigantic.values()), default=0)
    heads = [blocks[i] for i in range(rounds) for blocks in gigantic.values() if i < len(blocks)]
    for head in heads:
        host.mem.flags[head : head + BLOCKS_PER_1G] = BlockFlag.GIGANTIC
        host.mem.flags[head] |= BlockFlag.HEAD
    fresh = np.array(heads, np.int64)
    if is_early(host):
        populate_early(host, call, hs, fresh)
    hugetlb.add_fresh_pages(host, call, hs, fresh)


def _grow_boot_pool(host: Host, hs: HState, wanted: int | dict[int, int], call: Call) -> None:
    if isinstance(wanted, dict):
        for nid, count in wanted.items():
            if nid in host.memory_nodes():
                hugetlb.set_max_huge_pages(host, call, hs, count, nid, [nid])
    elif wanted:
        hugetlb.set_max_huge_pages(host, call, hs, wanted, None, host.memory_nodes())


def _report_short(hs: HState, wanted: int | dict[int, int], call: Call) -> None:
    rows = wanted.items() if isinstance(wanted, dict) else [(None, wanted)]
    for nid, count in rows:
        got = hs.nr_huge_pages if nid is None else hs.nr_node[nid] if nid < len(hs.nr_node) else 0
        where = "" if nid is None else f" node{nid}"
        if got < count:
            call.printk(
                f"HugeTLB: allocating {count} of page size {pretty_size(hs.order)} failed{where}.  "
                f"Only allocated {got} hugepages."
            )


def _check_memory_left(host: Host, params: BootParams) -> None:
    if not any(params.hugepages.values()):
        return
    left = allocatable((z for n in host.nodes for z in n.zones[: ZONE_NORMAL + 1]), ZONE_NORMAL)
    if left < NOTHING_LEFT_PAGES:
        pools = ", ".join(f"{hs.nr_huge_pages} of {hs.size}" for hs in host.hstates.values())
        raise BadInput(
            f"a pool of {pools} leaves {left} pages to the system; a real kernel panics here "
            "(System is deadlocked on memory): ask for fewer huge pages",
            where="cmdline",
        )
