"""The virtio-mem driver where a memory block is larger than what it works with: parts of blocks come and go.

Source: drivers/virtio/virtio_mem.c virtio_mem_sbm_plug_request(), virtio_mem_sbm_unplug_request(),
virtio_mem_sbm_unplug_any_sb_online() (5.14).
"""

from collections.abc import Iterator

from hugepool.mm.kernel.virtio_parts import (
    Kind,
    Run,
    add_blocks,
    fake_online,
    kind_of,
    may_add,
    next_blocks,
    remove_block,
)

PLUG_ORDER = (Kind.KERNEL, Kind.MOVABLE, Kind.OFFLINE)  # blocks that have room
UNPLUG_ORDER = (  # where to take from, and whether from blocks of which a part is gone already
    (Kind.OFFLINE, True),
    (Kind.OFFLINE, False),
    (Kind.MOVABLE, True),
    (Kind.KERNEL, True),
    (Kind.MOVABLE, False),
    (Kind.KERNEL, False),
)


def plug(run: Run, pages: int) -> str | None:
    """Plug whole sub-blocks: into blocks that have room, then into new ones; the errno if it ends before."""
    wanted = pages // run.device.unit_pages
    if not wanted:
        return None
    for kind in PLUG_ORDER:
        for block in _blocks(run, kind, partial=True):
            wanted -= _plug_into(run, block, kind, wanted)
            if not wanted:
                return None
    while wanted:
        blocks = next_blocks(run, 1)
        if not blocks or not may_add(run, run.host.memory_block_pages):
            return "ENOSPC"
        count = min(wanted, _parts(run))
        errno = add_blocks(run, {blocks[0]: (1 << count) - 1})
        run.did(blocks[0], "plug", 0 if errno else count * run.device.unit_pages, errno)
        if errno:
            return errno
        wanted -= count
    return None


def unplug(run: Run, pages: int) -> str | None:
    """Unplug whole sub-blocks, offline and movable ones first, from the end; EBUSY: some of them are in use."""
    wanted = pages // run.device.unit_pages
    if not wanted:
        return None
    for kind, partial in UNPLUG_ORDER:
        for block in reversed(_blocks(run, kind, partial=partial)):
            done, errno = _unplug_from(run, block, kind, wanted)
            wanted -= done
            if errno or not wanted:
                return errno
    return "EBUSY" if wanted else None


def _parts(run: Run) -> int:
    return run.host.memory_block_pages // run.device.unit_pages


def _blocks(run: Run, kind: Kind, *, partial: bool) -> list[int]:
    full = (1 << _parts(run)) - 1
    found = (block for block, mask in run.device.plugged.items() if (mask != full) == partial)
    return sorted(block for block in found if kind_of(run.host, block) == kind)


def _plug_into(run: Run, block: int, kind: Kind, wanted: int) -> int:
    """Plug up to so many sub-blocks of a block that has room, from its start; how many."""
    device = run.device
    mask = device.plugged[block]
    missing = [part for part in range(_parts(run)) if not mask >> part & 1][:wanted]
    for part in missing:
        device.plugged[block] |= 1 << part
        if kind != Kind.OFFLINE:
            fake_online(run.host, _first_pfn(run, block, part), device.unit_pages)
    run.did(block, "plug", len(missing) * device.unit_pages)
    return len(missing)


def _first_pfn(run: Run, block: int, part: int) -> int:
    return block * run.host.memory_block_pages + part * run.device.unit_pages


def _unplug_from(run: Run, block: int, kind: Kind, wanted: int) -> tuple[int, str | None]:
    """Unplug up to so many sub-blocks of a block, and remove it when none is left.

    How many, and an errno that ends the request.  A block that can go as a whole is tried as a whole first.
    """
    device, parts = run.device, _parts(run)
    before, errno, busy = device.plugged[block], None, None
    if kind == Kind.OFFLINE:
        for part in _from_end(before, wanted):
            device.plugged[block] &= ~(1 << part)
    else:
        whole = wanted >= parts and before == (1 << parts) - 1
        errno = _take(run, block, 0, parts, kind) if whole else "EBUSY"
        if errno == "EBUSY":
            errno, busy = _take_singly(run, block, kind, wanted)
    done = before.bit_count() - device.plugged[block].bit_count()
    run.did(block, "unplug", done * device.unit_pages, errno or busy)
    if errno is None and device.plugged[block] == 0:
        remove_block(run, block)
    return done, errno


def _take_singly(run: Run, block: int, kind: Kind, wanted: int) -> tuple[str | None, str | None]:
    """Unplug sub-blocks one by one from the end: an errno that ends it, and EBUSY if one had to stay."""
    busy = None
    left = wanted
    for part in _from_end(run.device.plugged[block], None):
        if not left:
            break
        errno = _take(run, block, part, 1, kind)
        if errno not in (None, "EBUSY"):
            return errno, busy
        busy = errno or busy
        left -= errno is None
    return None, busy


def _take(run: Run, block: int, part: int, count: int, kind: Kind) -> str | None:
    errno = run.take_out(_first_pfn(run, block, part), count * run.device.unit_pages, kind)
    if errno is None:
        run.device.plugged[block] &= ~(((1 << count) - 1) << part)
    return errno


def _from_end(mask: int, most: int | None) -> Iterator[int]:
    """Plugged sub-blocks, the last one first."""
    found = [part for part in range(mask.bit_length() - 1, -1, -1) if mask >> part & 1]
    return iter(found[:most])
