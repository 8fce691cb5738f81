"""virtio-mem devices of a recorded guest: the hypervisor's requests, played by the model's own driver.

The guest's driver works while snapshots are read.  A snapshot that later ones contradict met it in the middle: how far
it was then is an input.  What it came to in the end is an answer, and compared.
"""

import re
from typing import TYPE_CHECKING, Any

from hugepool.mm.commands import commands as c
from hugepool.mm.machine.units import PAGE_SIZE, memparse
from hugepool.replay.played import NotModelledError, Played
from hugepool.replay.trace import Step, Trace, memory_blocks

if TYPE_CHECKING:
    from hugepool.replay.player import Player

MIB_PAGES = (1 << 20) // PAGE_SIZE
DEFAULT_BLOCK = "2M"  # QEMU's block-size= for guests with transparent huge pages
INPUT = "how far the virtio-mem driver was when a snapshot was read"


def virtio_mem(player: "Player", op: dict[str, Any]) -> Played:
    """The hypervisor requests a size; the first request of a device shows it to the model as well."""
    name, requested = op["id"], op["requested_mib"] * MIB_PAGES
    if name not in player.host.virtio_mem:
        player.apply(_device(player, name))
    targets = _targets(player, op["index"], requested)
    first = targets.pop(op["index"], requested)
    player.driver_runs = {index: c.RequestVirtioMem(name, pages) for index, pages in targets.items()}
    player.apply(c.RequestVirtioMem(name, first))
    return Played(None)


def run_driver(player: "Player", step: Step) -> None:
    """The driver went on before the snapshot of this step, by its timer or because it was still at work."""
    command = player.driver_runs.pop(step.index, None)
    if command is not None:
        player.inputs[INPUT] += 1
        player.apply(command)


def _device(player: "Player", name: str) -> c.AddVirtioMem:
    """The device as the guest was started with it; what was plugged at boot lies behind the RAM."""
    options = _options(player.trace, name)
    size, start = player.host.memory_block_pages, _first_block(player)
    there = sum(int(block) >= start for block in memory_blocks(player.trace.boot or {}))
    return c.AddVirtioMem(
        name,
        int(options.get("node", 0)),
        options["pages"],
        memparse(options.get("block-size", DEFAULT_BLOCK)) // PAGE_SIZE,
        there * size,
        start * size,
        there * size,
    )


def _options(trace: Trace, name: str) -> dict[str, Any]:
    words = " ".join(trace.machine)
    devices = [_pairs(text) for text in re.findall(r"virtio-mem-pci,(\S+)", words)]
    device = next((d for d in devices if d.get("id") == name), None)
    backends = {b.get("id"): b for b in map(_pairs, re.findall(r"memory-backend-ram,(\S+)", words))}
    if device is None or device.get("memdev") not in backends:
        raise NotModelledError(f"a virtio-mem device {name} that the machine does not name")
    return {**device, "pages": memparse(backends[device["memdev"]]["size"]) // PAGE_SIZE}


def _pairs(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split(",") if "=" in word)


def _first_block(player: "Player") -> int:
    """The first memory block behind the RAM that the guest was started with."""
    numbers = sorted(int(block) for block in memory_blocks(player.trace.boot or {}))
    ram = memparse(player.trace.memory.split(",")[0]) // PAGE_SIZE // player.host.memory_block_pages
    if ram >= len(numbers):
        raise NotModelledError("a virtio-mem device without memory at boot")
    return numbers[ram]


def _targets(player: "Player", index: int, requested: int) -> dict[int, int]:
    """How far the driver is to go, by the step before whose snapshot it runs; ``index``: at once."""
    first, size = _first_block(player), player.host.memory_block_pages
    seen: list[tuple[int, int]] = []
    for step in player.trace.steps[index + 1 :]:
        if step.do == "virtio-mem":
            break
        if step.after is not None and step.after["memory_blocks"]:
            blocks = sum(int(block) >= first for block in memory_blocks(step.after))
            seen.append((step.index, blocks * size))
    targets: dict[int, int] = {}
    for at, (snapshot, pages) in enumerate(seen):
        target = requested if _came_to_rest(seen, at) else pages
        if at == 0:
            targets[index] = target
        elif pages != seen[at - 1][1]:
            targets[snapshot] = target
    return targets


def _came_to_rest(seen: list[tuple[int, int]], at: int) -> bool:
    """Whether the driver had done what it could by a snapshot: the next one agrees, or nothing says it had not."""
    pages = seen[at][1]
    if at + 1 < len(seen):
        return pages == seen[at + 1][1]
    return at == 0 or pages == seen[at - 1][1]
