"""Fault points."""

from dataclasses import dataclass

from hugepool.mm.machine.fault_inject import FaultPoint, check_point
from hugepool.mm.machine.outcomes import Fault
from hugepool.mm.machine.state import Host


@dataclass(frozen=True, slots=True)
class FaultList:
    """All fault points, armed or not."""

    items: list[Fault]


def faults(machine: Host) -> FaultList:
    """All fault points."""
    return FaultList([Fault.of(point, machine.faults.get(point)) for point in FaultPoint])


def fault(machine: Host, point: str) -> Fault:
    """One fault point.  Raises ENOENT."""
    return Fault.of(check_point(point), machine.faults.get(point))
