"""The virtio-mem driver where the device works with whole memory blocks, or several at once: big blocks.

Source: drivers/virtio/virtio_mem.c virtio_mem_bbm_plug_request(), virtio_mem_bbm_unplug_request(),
virtio_mem_bbm_offline_remove_and_unplug_bb() (5.14).
"""

from collections.abc import Callable

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
from hugepool.mm.machine.units import SECTION_PAGES

PASSES: tuple[Callable[[set[Kind]], bool], ...] = (  # which big blocks are tried first, by what is in them
    lambda kinds: kinds == {Kind.OFFLINE},
    lambda kinds: kinds == {Kind.MOVABLE},
    lambda _kinds: True,
)


def plug(run: Run, pages: int) -> str | None:
    """Plug whole big blocks at the lowest addresses; the errno if it ends before."""
    for _ in range(pages // run.device.unit_pages):
        blocks = next_blocks(run, _blocks_each(run))
        if not blocks or not may_add(run, run.device.unit_pages):
            return "ENOSPC"
        errno = add_blocks(run, dict.fromkeys(blocks, 1))
        for block in blocks:
            run.did(block, "plug", 0 if errno else run.host.memory_block_pages, errno)
        if errno:
            return errno
    return None


def unplug(run: Run, pages: int) -> str | None:
    """Unplug whole big blocks from the end of the region, offline and movable ones first; EBUSY: some are in use."""
    wanted = pages // run.device.unit_pages
    for wanted_now in PASSES:
        for blocks in _big_blocks(run):
            if not wanted:
                return None
            if not wanted_now({kind_of(run.host, block) for block in blocks}):
                continue
            errno = _take_and_remove(run, blocks)
            if errno not in (None, "EBUSY"):
                return errno
            wanted -= errno is None
    return "EBUSY" if wanted else None


def _blocks_each(run: Run) -> int:
    return run.device.unit_pages // run.host.memory_block_pages


def _big_blocks(run: Run) -> list[list[int]]:
    """Memory blocks of each big block that was added, the last one first."""
    each = _blocks_each(run)
    added = sorted(run.device.plugged)
    return [added[at : at + each] for at in range(0, len(added), each)][::-1]


def _take_and_remove(run: Run, blocks: list[int]) -> str | None:
    """Empty a big block section by section, then remove it; what was emptied goes back if one section refuses."""
    host = run.host
    taken: list[int] = []
    for block in blocks:
        kind = kind_of(host, block)
        first = block * host.memory_block_pages
        for start in range(first, first + host.memory_block_pages, SECTION_PAGES):
            errno = None if kind == Kind.OFFLINE else run.take_out(start, SECTION_PAGES, kind)
            if errno:
                for undone in taken:
                    fake_online(host, undone, SECTION_PAGES)
                run.did(block, "unplug", 0, errno)
                return errno
            if kind != Kind.OFFLINE:
                taken.append(start)
    for block in blocks:
        run.did(block, "unplug", host.memory_block_pages)
        remove_block(run, block)
    return None
