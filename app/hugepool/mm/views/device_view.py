"""Devices that give the machine memory."""

from dataclasses import dataclass

from hugepool.mm.commands.virtio_mem import describe, find_device
from hugepool.mm.machine.memory_outcomes import VirtioMemDevice
from hugepool.mm.machine.state import Host


@dataclass(frozen=True, slots=True)
class VirtioMemList:
    """All virtio-mem devices of a host, by name."""

    items: list[VirtioMemDevice]


def devices(machine: Host) -> VirtioMemList:
    """All of them."""
    return VirtioMemList([describe(machine, machine.virtio_mem[name]) for name in sorted(machine.virtio_mem)])


def device(machine: Host, name: str) -> VirtioMemDevice:
    """One of them.  Raises ENOENT."""
    return describe(machine, find_device(machine, name))
