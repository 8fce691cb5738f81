"""Memory that came or went between two snapshots: plugging is done from outside the guest, so no step records it."""

from typing import Any

from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import AddMemory, RemoveMemory, SetBlockState
from hugepool.mm.machine.state import Host
from hugepool.mm.views.vmstat import block_states


def plug(host: Host, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Add the memory blocks that a snapshot has and the host has not; remove those that are gone.

    Snapshots taken under pressure list no blocks at all.
    """
    was, now = block_states(host), after["memory_blocks"]
    if not now:
        return
    for first, count in _runs(sorted(int(block) for block in now.keys() - was.keys())):
        pages = host.memory_block_pages
        apply(host, AddMemory(_grown_node(before, after), count * pages, first * pages))
    for block in sorted(int(block) for block in was.keys() - now.keys()):
        if was[str(block)] == "online":
            _take_offline(host, block)
        apply(host, RemoveMemory(block))


def _take_offline(host: Host, block: int) -> None:
    outcome = apply(host, SetBlockState(block, "offline"))
    if outcome.error is not None:
        raise outcome.error


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
