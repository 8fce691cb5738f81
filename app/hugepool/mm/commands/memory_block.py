"""Memory blocks as /sys/devices/system/memory has them: state words, adding, removing.

Source: drivers/base/memory.c state_store(), auto_online_blocks_store() (5.14);
mm/memory_hotplug.c add_memory_resource(), try_remove_memory() (5.14).
"""

import numpy as np

from hugepool.mm.commands.commands import AddMemory, EjectMemory, RemoveMemory, SetAutoOnline, SetBlockState
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import memory_hotplug, memory_offline
from hugepool.mm.kernel.memory_offline import OfflineProgress
from hugepool.mm.machine.devices import device_at, device_of_block
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import AddedMemory, BlockChange, EjectedMemory, RemovedMemory
from hugepool.mm.machine.mmzone import Blocks, SectionState, Zone
from hugepool.mm.machine.outcomes import AutoOnline, vmemmap_of
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import GIB_PAGES, PAGE_SIZE, SECTION_PAGES

WORDS = ("offline", "online", "online_kernel", "online_movable")
HOTPLUG_BASE = 4 * GIB_PAGES  # where a PC puts added memory: behind its RAM, never below 4 GiB
MAX_PFN = 1 << 34  # 46 physical address bits


def block_sections(host: Host, block: int) -> Blocks:
    """Sections of a memory block.  Raises ENOENT when the machine has no such block."""
    per_block = host.memory_block_pages // SECTION_PAGES
    first = block * per_block
    if block < 0 or first >= host.mem.nr_sections:
        raise NotFound(f"no memory block {block} on this host", block=block)
    sections = np.arange(first, min(first + per_block, host.mem.nr_sections))
    if not host.mem.section_state[sections].any():
        raise NotFound(f"no memory block {block} on this host", block=block)
    return sections


def is_online(host: Host, sections: Blocks) -> bool:
    """Whether a memory block's memory is in use by the kernel."""
    return int(host.mem.section_state[sections].max()) == SectionState.ONLINE


# -- state -----------------------------------------------------------------------------------------------


@handles(SetBlockState)
def set_block_state(host: Host, call: Call, cmd: SetBlockState) -> BlockChange:
    """Write a memory block's state.

    Raises:
        MMError: ENOENT no such block; EINVAL an unknown word, a state already reached, holes, several zones;
            EBUSY, ENOMEM or EINTR as in offline_pages, with ``result``: what is kept.
    """
    _check_word(cmd.word, "state")
    sections = block_sections(host, cmd.block)
    online = is_online(host, sections)
    if online == (cmd.word != "offline"):
        progress = OfflineProgress("online" if online else "offline")
        if cmd.repeat_ok:
            return _change(call, progress)
        raise BadInput(f"memory block {cmd.block} is {progress.state} already", where="state")
    if cmd.word != "offline":
        zone = memory_hotplug.online_pages(host, call, cmd.block, sections, cmd.word)
        return _change(call, OfflineProgress("online"), zone)
    try:
        return _change(call, memory_offline.offline_pages(host, call, cmd.block, sections))
    except MMError as refused:
        if refused.result is not None:
            refused.result = _change(call, refused.result)
        raise


def _change(call: Call, progress: OfflineProgress, zone: Zone | None = None) -> BlockChange:
    return BlockChange(
        state=progress.state,
        migrated_pages=progress.migrated_pages,
        migrated_hugepages=progress.migrated_hugepages,
        dissolved=progress.dissolved,
        passes=progress.passes,
        vmemmap=vmemmap_of(call),
        node=None if zone is None else zone.nid,
        zone=None if zone is None else zone.name,
    )


@handles(SetAutoOnline)
def set_auto_online(host: Host, call: Call, cmd: SetAutoOnline) -> AutoOnline:
    """Set what hot-added memory does by itself.  Raises EINVAL for an unknown word."""
    _check_word(cmd.word, "auto_online_blocks")
    host.auto_online_blocks = cmd.word
    call.emit(Event.AUTO_ONLINE_SET, word=cmd.word)
    return AutoOnline(cmd.word)


def _check_word(word: str, where: str) -> None:
    if word not in WORDS:
        raise BadInput(f"must be one of {', '.join(WORDS)}, not {word!r}", where=where)


# -- adding and removing ---------------------------------------------------------------------------------


@handles(AddMemory)
def add_memory(host: Host, call: Call, cmd: AddMemory) -> AddedMemory:
    """Plug memory in: offline blocks behind the machine's RAM, set online as auto_online_blocks says.

    Raises:
        MMError: EINVAL no multiple of the block size, no such node, or an address that is taken; ENOMEM no memory
            for the page table that describes it.  Nothing is kept.
    """
    first, last = _place(host, cmd)
    sections = np.arange(first, last)
    memory_hotplug.add_memory(host, call, cmd.node, sections)
    per_block = host.memory_block_pages // SECTION_PAGES
    blocks = list(range(first // per_block, last // per_block))
    word = host.auto_online_blocks
    call.emit(Event.MEMORY_ADDED, node=cmd.node, blocks=[blocks[0], blocks[-1]])
    if word != "offline":
        for block in blocks:
            memory_hotplug.online_pages(host, call, block, block_sections(host, block), word)
    return AddedMemory(
        node=cmd.node,
        blocks=blocks,
        start_pfn=first * SECTION_PAGES,
        nr_pages=int(sections.size) * SECTION_PAGES,
        state="offline" if word == "offline" else "online",
        memmap_on_memory=bool(memory_hotplug.on_own_memory(host, sections).all()),
    )


def _place(host: Host, cmd: AddMemory) -> tuple[int, int]:
    """Sections, end excluded, where the memory goes."""
    if not 0 <= cmd.node < len(host.nodes):
        raise BadInput(f"this host has no node {cmd.node}", where="node")
    size = host.memory_block_pages
    if cmd.pages <= 0 or cmd.pages % size:
        mib = size * PAGE_SIZE >> 20
        raise BadInput(f"must be a multiple of the memory block size, {mib} MiB", where="memory")
    start = region_for(host, cmd.pages, cmd.start_pfn)
    return start // SECTION_PAGES, (start + cmd.pages) // SECTION_PAGES


def region_for(host: Host, pages: int, start_pfn: int | None, there_pages: int = 0) -> int:
    """First page of a region for more memory: where it is wanted, or behind the machine's RAM.

    ``there_pages``: how much of it, from its start on, may be memory already.

    Raises:
        MMError: EINVAL no first page of a memory block, or behind the last address; EEXIST memory or a device is there.
    """
    start = _lowest_gap(host, pages) if start_pfn is None else start_pfn
    if start % host.memory_block_pages or start < 0:
        raise BadInput("must be the first page of a memory block", where="start_pfn")
    if start + pages > MAX_PFN:
        raise BadInput("the memory would end behind 64 TiB, the last address there is", where="memory")
    first, last = (start + there_pages) // SECTION_PAGES, (start + pages) // SECTION_PAGES
    device = device_at(host.virtio_mem.values(), start, start + pages)
    if device is not None or host.mem.section_state[first:last].any():
        what = f"the virtio-mem device {device.name!r}" if device is not None else "memory"
        raise MMError(
            "EEXIST", f"there is {what} at page {start} already", reason=Reason.MEMORY_PRESENT, pfn=start
        )
    return start


def _lowest_gap(host: Host, pages: int) -> int:
    """Lowest free address behind the boot memory, where it begins on a GiB."""
    mem = host.mem
    boot = np.flatnonzero((mem.section_state != SectionState.ABSENT) & ~mem.hot_added)
    end = (int(boot[-1]) + 1) * SECTION_PAGES if boot.size else 0
    base = max(HOTPLUG_BASE, -(-end // GIB_PAGES) * GIB_PAGES)
    step, wanted = host.memory_block_pages // SECTION_PAGES, pages // SECTION_PAGES
    taken = mem.section_state != SectionState.ABSENT
    devices, first = host.virtio_mem.values(), base // SECTION_PAGES
    while taken[first : first + wanted].any() or device_at(
        devices, first * SECTION_PAGES, first * SECTION_PAGES + pages
    ):
        first += step
    return first * SECTION_PAGES


@handles(RemoveMemory)
def remove_memory(host: Host, call: Call, cmd: RemoveMemory) -> RemovedMemory:
    """Unplug an offline memory block: its vmemmap goes back to the system.

    Raises:
        MMError: ENOENT no such block; EBUSY it is online, or a virtio-mem device has it.
    """
    sections = block_sections(host, cmd.block)
    refuse_of_device(host, cmd.block)
    if is_online(host, sections):
        raise MMError("EBUSY", f"memory block {cmd.block} is online: take it offline first",
                      reason=Reason.BLOCK_ONLINE, block=cmd.block)  # fmt: skip
    return _remove(host, call, cmd.block)


def _remove(host: Host, call: Call, block: int) -> RemovedMemory:
    freed = memory_hotplug.remove_memory(host, block_sections(host, block))
    call.emit(Event.MEMORY_REMOVED, block=block, vmemmap_pages=freed.pages, lost_pages=freed.lost)
    return RemovedMemory(block, freed.pages, freed.lost, freed.tables)


def refuse_of_device(host: Host, block: int) -> None:
    """Raise EBUSY for a memory block of a virtio-mem device: its driver alone takes it away."""
    device = device_of_block(host.virtio_mem.values(), block)
    if device is not None:
        raise MMError("EBUSY", f"memory block {block} belongs to the virtio-mem device {device.name!r}",
                      reason=Reason.DEVICE_MEMORY, block=block)  # fmt: skip


# -- a device that is asked to leave ---------------------------------------------------------------------


@handles(EjectMemory)
def eject_memory(host: Host, call: Call, cmd: EjectMemory) -> EjectedMemory:
    """Take every block of a device offline and remove them; if one refuses twice, the others come back online.

    They come back as ``online`` puts them, whichever zone they were in; blocks that were offline before stay so.

    Raises:
        MMError: ENOENT no such blocks; EINVAL no block at all; EBUSY a block refuses, with ``result``, or a virtio-mem
            device has it.
    Source: drivers/acpi/scan.c acpi_scan_try_to_offline(), acpi_bus_offline(), acpi_bus_online() (5.14).
    """
    if cmd.blocks < 1:
        raise BadInput("must be at least 1", where="blocks")
    blocks = list(range(cmd.block, cmd.block + cmd.blocks))
    for block in blocks:
        block_sections(host, block)
        refuse_of_device(host, block)
    before = [block for block in blocks if is_online(host, block_sections(host, block))]
    failures = _offline_all(host, call, before)
    failures = _offline_all(host, call, list(failures), stop=True)
    refused = {block: failure.errno for block, failure in failures.items()}
    if not refused:
        for block in blocks:
            _remove(host, call, block)
        return EjectedMemory(blocks, gone=True, refused={}, vmemmap=vmemmap_of(call))
    for block in before:
        sections = block_sections(host, block)
        if not is_online(host, sections):
            memory_hotplug.online_pages(host, call, block, sections, "online")
    first, failure = next(iter(failures.items()))
    raise MMError("EBUSY", f"memory block {first} did not go offline: {failure.detail}", reason=failure.reason,
                  result=EjectedMemory(blocks, gone=False, refused=refused, vmemmap=vmemmap_of(call)),
                  **failure.facts)  # fmt: skip


def _offline_all(host: Host, call: Call, blocks: list[int], *, stop: bool = False) -> dict[int, MMError]:
    """Take blocks offline one after the other; those that refuse.  ``stop``: at the first of them."""
    failures: dict[int, MMError] = {}
    for block in blocks:
        try:
            memory_offline.offline_pages(host, call, block, block_sections(host, block))
        except MMError as refused:
            failures[block] = refused
            if stop:
                break
    return failures
