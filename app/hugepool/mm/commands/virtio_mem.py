"""virtio-mem: devices through which a hypervisor plugs and unplugs memory, and parts of a single memory block.

Source: drivers/virtio/virtio_mem.c virtio_mem_probe(), virtio_mem_config_changed(), virtio_mem_retry(),
virtio_mem_sbm_unplug_any_sb_online() (5.14).
"""

import numpy as np

from hugepool.mm.commands.commands import (
    AddVirtioMem,
    RemoveVirtioMem,
    RequestVirtioMem,
    RetryVirtioMem,
    UnplugMemory,
)
from hugepool.mm.commands.contig_ranges import progress_of
from hugepool.mm.commands.memory_block import block_sections, is_online, refuse_of_device, region_for
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import virtio_driver as driver
from hugepool.mm.kernel.memory_hotplug import pageblocks
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.kernel.virtio_parts import Run, fake_offline, kind_of
from hugepool.mm.machine.devices import VirtioMem
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import (
    RemovedDevice,
    RetryTimer,
    Unplugged,
    VirtioMemDevice,
    VirtioMemRun,
)
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.outcomes import shallow
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES

# -- devices ---------------------------------------------------------------------------------------------


@handles(AddVirtioMem)
def add_device(host: Host, call: Call, cmd: AddVirtioMem) -> VirtioMemRun:
    """A device appears: the driver plugs what is requested, as far as it can.

    Raises:
        MMError: EEXIST the name is taken, or there is memory in the region; EINVAL no such node, or sizes that do not
            fit.  Nothing is kept.
    """
    if cmd.name in host.virtio_mem:
        raise MMError(
            "EEXIST", f"there is a virtio-mem device {cmd.name!r} already", reason=Reason.DEVICE_EXISTS
        )
    if not 0 <= cmd.node < len(host.nodes):
        raise BadInput(f"this host has no node {cmd.node}", where="node")
    if cmd.block_pages < PAGEBLOCK_PAGES or cmd.block_pages & (cmd.block_pages - 1):
        raise BadInput("must be a power of two of at least 2 MiB", where="block_size")
    unit = driver.unit_pages(host, cmd.block_pages)
    whole = max(unit, host.memory_block_pages)
    if cmd.pages < whole or cmd.pages % whole:
        raise BadInput(f"must be a multiple of {whole * PAGE_SIZE >> 20} MiB", where="max")
    start = region_for(host, cmd.pages, cmd.start_pfn, cmd.there_pages)
    device = VirtioMem(cmd.name, cmd.node, start, cmd.pages, cmd.block_pages, unit)
    _check_requested(device, cmd.requested_pages)
    device.plugged = _there(host, device, cmd.there_pages)
    host.virtio_mem[cmd.name] = device
    call.emit(Event.VIRTIO_MEM_ADDED, id=cmd.name, node=cmd.node, start_pfn=start, pages=cmd.pages)
    return _request(host, call, device, cmd.requested_pages)


def _there(host: Host, device: VirtioMem, pages: int) -> dict[int, int]:
    """Memory blocks that the machine has of the region already, wholly plugged."""
    size = host.memory_block_pages
    if pages % size or pages > device.nr_pages:
        raise BadInput("must be whole memory blocks of the region", where="there_pages")
    blocks = range(device.start_pfn // size, (device.start_pfn + pages) // size)
    for block in blocks:
        block_sections(host, block)
    return dict.fromkeys(blocks, (1 << size // device.part_pages(size)) - 1)


def _check_requested(device: VirtioMem, pages: int) -> None:
    if not 0 <= pages <= device.nr_pages or pages % device.block_pages:
        mib = device.block_pages * PAGE_SIZE >> 20
        raise BadInput(f"must be a multiple of {mib} MiB, and no more than max", where="requested")


@handles(RequestVirtioMem)
def request(host: Host, call: Call, cmd: RequestVirtioMem) -> VirtioMemRun:
    """The hypervisor changes the requested size; the driver does what it can.

    Raises:
        MMError: ENOENT no such device; EINVAL no multiple of its blocks, or beyond its region.
    """
    device = find_device(host, cmd.name)
    _check_requested(device, cmd.pages)
    return _request(host, call, device, cmd.pages)


@handles(RetryVirtioMem)
def retry(host: Host, call: Call, cmd: RetryVirtioMem) -> VirtioMemRun:
    """The driver's timer fires.  Raises ENOENT: no such device."""
    device = find_device(host, cmd.name)
    driver.timer_expired(device)
    return _request(host, call, device, device.requested_pages)


def _request(host: Host, call: Call, device: VirtioMem, pages: int) -> VirtioMemRun:
    device.requested_pages = pages
    watch = progress_of(host)
    run = Run(host, call, device, watch.progress)
    errno = driver.run_wq(run)
    view = describe(host, device)
    call.emit(
        Event.VIRTIO_MEM_RUN,
        id=device.name,
        requested_bytes=view.requested_bytes,
        plugged_bytes=view.plugged_bytes,
        errno=errno,
    )
    return VirtioMemRun(
        **shallow(watch.moved(host, call)),
        id=device.name,
        requested_bytes=view.requested_bytes,
        plugged_bytes=view.plugged_bytes,
        steps=run.steps,
        retry=view.retry,
        errno=errno,
        reason=run.failure.reason if errno and run.failure else None,
    )


@handles(RemoveVirtioMem)
def remove_device(host: Host, call: Call, cmd: RemoveVirtioMem) -> RemovedDevice:
    """Take a device away.  Raises ENOENT: no such device; EBUSY: the machine has memory of it."""
    device = find_device(host, cmd.name)
    if device.plugged:
        raise MMError("EBUSY", f"the machine has memory of the device {cmd.name!r}: request 0 first",
                      reason=Reason.DEVICE_PLUGGED)  # fmt: skip
    del host.virtio_mem[cmd.name]
    call.emit(Event.VIRTIO_MEM_REMOVED, id=cmd.name)
    return RemovedDevice(cmd.name)


def find_device(host: Host, name: str) -> VirtioMem:
    """A device by its name.  Raises ENOENT."""
    if name not in host.virtio_mem:
        raise NotFound(f"no virtio-mem device {name[:40]!r} on this host")
    return host.virtio_mem[name]


def describe(host: Host, device: VirtioMem) -> VirtioMemDevice:
    """A device as answers show it."""
    size = host.memory_block_pages
    return VirtioMemDevice(
        id=device.name,
        node=device.nid,
        start_pfn=device.start_pfn,
        max_bytes=device.nr_pages * PAGE_SIZE,
        block_size_bytes=device.block_pages * PAGE_SIZE,
        mode="sub-block" if device.unit_pages < size else "big-block",
        unit_bytes=device.unit_pages * PAGE_SIZE,
        requested_bytes=device.requested_pages * PAGE_SIZE,
        plugged_bytes=device.plugged_pages(size) * PAGE_SIZE,
        blocks=sorted(device.plugged),
        retry=RetryTimer(device.timer_s or None, device.attempt),
    )


# -- parts of a single memory block ----------------------------------------------------------------------


@handles(UnplugMemory)
def unplug(host: Host, call: Call, cmd: UnplugMemory) -> Unplugged:
    """Empty sub-blocks of an online memory block from its end and take them out of MemTotal.

    Sub-blocks are 4 MiB until 5.18, 2 MiB later.  One that stays busy is left out; in ZONE_MOVABLE it is tried five
    times first.

    Raises:
        MMError: ENOENT no such block; EINVAL no multiple of a sub-block, more than is plugged, or an offline block;
            EBUSY it belongs to a virtio-mem device;
            ENOMEM no 2 MiB page for a replacement, which ends it, or EBUSY not enough sub-blocks could be emptied,
            both with ``result``: what was unplugged stays unplugged, and each try can have grown the pool.
    """
    todo = _sub_blocks(host, cmd)
    size = host.profile.isolation_pages
    wanted = cmd.pages // size
    kind = kind_of(host, cmd.block)
    watch, done = progress_of(host), 0
    failures: list[MMError] = []
    for start in todo:
        if done == wanted or (failures and failures[-1].errno == "ENOMEM"):
            break
        failure = fake_offline(host, call, start, size, kind, watch.progress)
        if failure is None:
            done += 1
        else:
            failures.append(failure)
    answer = Unplugged(
        **shallow(watch.moved(host, call)),
        block=cmd.block,
        requested_pages=cmd.pages,
        unplugged_pages=done * size,
        busy_sub_blocks=len(failures),
        sub_block_pages=size,
    )
    call.emit(Event.MEMORY_UNPLUGGED, block=cmd.block, pages=done * size, busy=len(failures))
    if done < wanted:
        last = failures[-1]
        raise MMError(last.errno, f"{done * size} of {cmd.pages} pages were unplugged: {last.detail}",
                      reason=last.reason, result=answer, **last.facts)  # fmt: skip
    return answer


def _sub_blocks(host: Host, cmd: UnplugMemory) -> list[int]:
    """First pages of the plugged sub-blocks of a block, the last one first."""
    sections = block_sections(host, cmd.block)
    size = host.profile.isolation_pages
    refuse_of_device(host, cmd.block)
    if not is_online(host, sections):
        raise BadInput(f"memory block {cmd.block} is offline", where="block")
    if cmd.pages <= 0 or cmd.pages % size:
        raise BadInput(f"must be a multiple of {size * PAGE_SIZE >> 20} MiB", where="memory")
    blocks = pageblocks(sections)
    kept = np.setdiff1d(blocks, pages_of_use(host.mem, blocks, Use.UNPLUGGED) // PAGEBLOCK_PAGES)
    starts = np.unique(kept * PAGEBLOCK_PAGES // size * size)[::-1]
    if cmd.pages > starts.size * size:
        raise BadInput(f"only {starts.size * size} pages of the block are plugged", where="memory")
    if not (host.mem.zone[kept] == host.mem.zone[kept[0]]).all() or host.mem.zone[kept[0]] == 0:
        raise BadInput(
            f"memory block {cmd.block} lies in several zones", where="block", reason=Reason.MULTIZONE_RANGE
        )
    return starts.tolist()  # type: ignore[no-any-return]
