"""Memory that came or went from outside the guest between two snapshots."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import AddMemory, EjectMemory
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.machine.devices import device_at
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Use
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES
from hugepool.mm.views.vmstat import block_states
from hugepool.replay.trace import Step, memory_blocks

if TYPE_CHECKING:
    from hugepool.replay.player import Player


def plug(player: "Player", step: Step, before: dict[str, Any]) -> None:
    """Play what was done to the guest from outside before the snapshot of a step.

    Early recordings do not say what it was: memory blocks that a snapshot has and the host has not were added, those
    that are gone were removed.  Snapshots taken under pressure list no blocks at all.
    """
    host, after, outside = player.host, step.after or {}, step.op.get("outside", {})
    now = _not_of_devices(host, memory_blocks(after))
    if not now:
        return
    was = _not_of_devices(host, block_states(host))
    added = sorted(int(block) for block in now.keys() - was.keys())
    for first, count in _runs(added):
        pages = host.memory_block_pages
        player.apply(AddMemory(_grown_node(before, after), count * pages, first * pages))
    if "plug" in outside:
        player.dimms[outside["plug"]] = added
    gone = sorted(int(block) for block in was.keys() - now.keys())
    if "unplug" in outside:
        _ask_to_leave(player, player.dimms.get(outside["unplug"], gone), gone=bool(outside["gone"]))
        return
    for first, count in _runs(gone):
        player.apply(EjectMemory(first, count))


def _ask_to_leave(player: "Player", blocks: list[int], *, gone: bool) -> None:
    """A DIMM is asked to leave.  That kernel memory lies in one of its blocks is an input; what follows is not."""
    if not blocks:
        return
    leave = EjectMemory(blocks[0], len(blocks))
    if not gone and apply(fork(player.host), leave).error is None:
        player.inputs["kernel memory in a block of a DIMM"] += 1
        _put_kernel_page(player.host, blocks)
    outcome = apply(player.host, leave, player.now_ns)
    if outcome.error is not None and gone:
        raise outcome.error


def _put_kernel_page(host: Host, blocks: list[int]) -> None:
    """Take a free page of the first of some memory blocks that lies in a kernel zone."""
    per_block = host.memory_block_pages // PAGEBLOCK_PAGES
    for block in blocks:
        inside = np.arange(block * per_block, (block + 1) * per_block)
        free = pages_of_use(host.mem, inside, Use.BUDDY)
        zones = host.mem.zones_of(inside)
        if free.size and zones and zones[0].type != ZONE_MOVABLE:
            host.mem.assign_pages(free[:1], Use.SYSTEM)
            return


def _not_of_devices(host: Host, states: dict[str, str]) -> dict[str, str]:
    return {block: state for block, state in states.items() if not _of_device(host, block)}


def _of_device(host: Host, block: str) -> bool:
    """Whether a block lies in the region of a virtio-mem device, whose driver adds and removes it."""
    first = int(block) * host.memory_block_pages
    return device_at(host.virtio_mem.values(), first, first + host.memory_block_pages) is not None


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers in a row as (first, count)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _grown_node(before: dict[str, Any], after: dict[str, Any]) -> int:
    """The node with more present pages than before; memory that stays offline is nobody's yet, so the first."""
    for name, zone in after["zones"].items():
        if zone["present"] > before["zones"].get(name, {"present": 0})["present"]:
            return int(name.split("/")[0])
    return 0
