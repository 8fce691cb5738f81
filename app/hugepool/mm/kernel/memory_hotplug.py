"""Memory that comes and goes: onlining into a zone, adding and removing sections.

Source: mm/memory_hotplug.c online_pages(), default_zone_for_pfn(), add_memory_resource(), try_remove_memory(),
mhp_supports_memmap_on_memory() (5.14).
"""

import numpy as np

from hugepool.mm.kernel import sparse
from hugepool.mm.kernel.watermarks import memory_changed
from hugepool.mm.machine.devices import device_of_block
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import (
    ZONE_MOVABLE,
    ZONE_NORMAL,
    Blocks,
    Mask,
    Migrate,
    SectionState,
    Use,
    Zone,
)
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, PAGEBLOCK_PAGES, SECTION_PAGES


def pageblocks(sections: Blocks) -> Blocks:
    """All pageblocks of sections."""
    blocks: Blocks = (sections[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)).ravel()
    return blocks


# -- online -----------------------------------------------------------------------------------------------


def online_pages(host: Host, call: Call, block: int, sections: Blocks, word: str) -> Zone:
    """Give a memory block's pages to a zone, free and movable; a vmemmap that lies on them stays.

    What a virtio-mem device has not plugged stays out of the zone's managed pages.
    """
    mem = host.mem
    nid = int(mem.section_nid[sections[0]])
    blocks = pageblocks(sections)
    start, end = int(sections[0]) * SECTION_PAGES, (int(sections[-1]) + 1) * SECTION_PAGES
    zone = zone_for_online(host, nid, start, end, word)
    low = min(zone.start_pfn, start) if zone.spanned else start
    high = max(zone.end_pfn, end) if zone.spanned else end
    zone.start_pfn, zone.spanned = low, high - low
    mem.zone[blocks] = zone.id
    mem.section_state[sections] = SectionState.ONLINE
    zone.present += int(blocks.size) * PAGEBLOCK_PAGES
    mem.set_type(blocks, Migrate.MOVABLE)
    new = blocks[mem.use[blocks] == Use.OFFLINE]
    plugged = _plugged(host, block, new)
    mem.assign_blocks(new[~plugged], Use.UNPLUGGED)
    mem.assign_blocks(new[plugged], Use.BUDDY)
    mem.put_back(new[plugged])
    mem.dirty[sections] = True
    memory_changed(host)
    call.emit(Event.MEMORY_BLOCK_ONLINE, block=block, node=nid, zone=zone.name)
    return zone


def _plugged(host: Host, number: int, blocks: Blocks) -> Mask:
    """Which pageblocks of a memory block are memory: all, but where a virtio-mem device has plugged a part of it.

    Source: drivers/virtio/virtio_mem.c virtio_mem_online_page_cb() (5.14).
    """
    device = device_of_block(host.virtio_mem.values(), number)
    if device is None:
        return np.ones(blocks.size, np.bool_)
    parts = blocks * PAGEBLOCK_PAGES % host.memory_block_pages // device.part_pages(host.memory_block_pages)
    return np.array([bool(device.plugged[number] >> part & 1) for part in parts.tolist()], np.bool_)


def zone_of_block(host: Host, number: int) -> Zone | None:
    """The zone of an online memory block; None where its pages lie in several, or some behind the zone (5.14).

    A block of an imported machine that had none has none here.  Holes alone change nothing; they forbid to go offline.
    Source: mm/memory_hotplug.c test_pages_in_a_zone() (5.14); drivers/base/memory.c
    early_node_zone_for_memory_block() (6.1).
    """
    mem, per_block = host.mem, host.memory_block_pages // PAGEBLOCK_PAGES
    blocks = np.arange(number * per_block, min((number + 1) * per_block, mem.nr_blocks))
    zone_ids = np.unique(mem.zone[blocks[mem.use[blocks] != Use.HOLE]])
    zone_ids = zone_ids[zone_ids > 0]
    if zone_ids.size != 1 or number in host.carried.get("blocks_without_zone", ()):
        return None
    zone = mem.zones[int(zone_ids[0]) - 1]
    there = blocks[mem.section_state[blocks // BLOCKS_PER_SECTION] != SectionState.ABSENT]
    looked_at = there[there % 2 == 0] * PAGEBLOCK_PAGES
    outside = (looked_at < zone.start_pfn) | (looked_at >= zone.end_pfn)
    return None if host.profile.block_zone_from_pages and outside.any() else zone


def zone_for_online(host: Host, nid: int, start_pfn: int, end_pfn: int, word: str) -> Zone:
    """The zone that onlining puts a range of pages into.

    Source: mm/memory_hotplug.c zone_for_pfn_range(), default_kernel_zone_for_pfn(), default_zone_for_pfn() (5.14).
    """
    zones = host.nodes[nid].zones
    movable = zones[ZONE_MOVABLE]
    kernel = next((z for z in zones[:ZONE_NORMAL] if _overlaps(z, start_pfn, end_pfn)), zones[ZONE_NORMAL])
    if word != "online":
        return movable if word == "online_movable" else kernel
    in_kernel, in_movable = (_overlaps(z, start_pfn, end_pfn) for z in (kernel, movable))
    if in_kernel != in_movable:
        return kernel if in_kernel else movable
    return movable if host.movable_node else kernel


def valid_zones(host: Host, nid: int, start_pfn: int, end_pfn: int) -> list[str]:
    """Names of the zones that a range of offline memory may go to, the default first.

    Source: drivers/base/memory.c valid_zones_show() (5.14).
    """
    words = ("online", "online_kernel", "online_movable")
    names = [zone_for_online(host, nid, start_pfn, end_pfn, word).name for word in words]
    return list(dict.fromkeys(names))


def _overlaps(zone: Zone, start_pfn: int, end_pfn: int) -> bool:
    return zone.spanned > 0 and zone.start_pfn < end_pfn and start_pfn < zone.end_pfn


def shrink_span(host: Host, zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """A zone that began or ended with the range that was removed begins or ends with what is left of it.

    Source: mm/memory_hotplug.c shrink_zone_span() (5.14).
    """
    if start_pfn != zone.start_pfn and end_pfn != zone.end_pfn:
        return
    span = host.mem.blocks_of(zone)
    left = np.flatnonzero(host.mem.zone[span] == zone.id) + span.start
    if left.size == 0:
        zone.start_pfn = zone.spanned = 0
        return
    start = int(left[0]) * PAGEBLOCK_PAGES if start_pfn == zone.start_pfn else zone.start_pfn
    end = zone.end_pfn if start_pfn == zone.start_pfn else (int(left[-1]) + 1) * PAGEBLOCK_PAGES
    zone.start_pfn, zone.spanned = start, end - start


# -- adding and removing ----------------------------------------------------------------------------------


def add_memory(host: Host, call: Call, nid: int, sections: Blocks, *, on_itself: bool = True) -> None:
    """Make absent sections offline memory of a node, each with a vmemmap.

    The vmemmap lies on the added memory itself with memmap_on_memory, unless a driver wants it otherwise
    (``on_itself``); else it is taken from the node's memory.  Raises ENOMEM when there is none left; nothing is kept.
    """
    mem = host.mem
    mem.grow(int(sections[-1]) + 1)
    per_block = host.memory_block_pages // SECTION_PAGES
    if on_itself and _supports_memmap_on_memory(host, sections.size):
        for block in sections.reshape(-1, per_block):
            sparse.put_vmemmap_on_itself(mem, block)
    else:
        sparse.alloc_vmemmap(host, call, nid, sections)
    blocks = pageblocks(sections)
    mem.assign_blocks(blocks[mem.use[blocks] == Use.HOLE], Use.OFFLINE)
    mem.mt[blocks] = Migrate.MOVABLE
    mem.section_state[sections] = SectionState.OFFLINE
    mem.section_nid[sections] = nid
    mem.hot_added[sections] = True
    mem.dirty[sections] = True


def _supports_memmap_on_memory(host: Host, nr_sections: int) -> bool:
    """One memory block at a time until 6.7; vmemmap freeing excludes it until 5.18 (settled at boot)."""
    one_block = nr_sections * SECTION_PAGES == host.memory_block_pages
    return host.memmap_on_memory and (one_block or host.profile.memmap_on_memory_any_size)


def on_own_memory(host: Host, sections: Blocks) -> Mask:
    """Sections whose vmemmap lies on the added memory itself."""
    return sparse.on_own_memory(host.mem, sections)


def remove_memory(host: Host, sections: Blocks) -> sparse.FreedVmemmap:
    """Make offline sections absent and free their vmemmap and page tables."""
    mem = host.mem
    freed = sparse.free_vmemmap(host, sections)
    mem.assign_blocks(pageblocks(sections), Use.HOLE)
    mem.section_state[sections] = SectionState.ABSENT
    mem.section_nid[sections] = -1
    mem.hot_added[sections] = False
    mem.dirty[sections] = True
    return freed
