"""Arming and disarming fault points."""

from typing import Any

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.registry import handles
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import make_fault
from hugepool.mm.machine.state import Call, Host


@handles(c.SetFault)
def set_fault(host: Host, call: Call, cmd: c.SetFault) -> dict[str, Any]:
    fault = make_fault(cmd.point, cmd.probability, cmd.interval, cmd.times, cmd.space, host.seed)
    host.faults[cmd.point] = fault
    call.emit(Event.FAULT_ARMED, point=cmd.point)
    return fault_view(host, cmd.point)


@handles(c.ClearFault)
def clear_fault(host: Host, call: Call, cmd: c.ClearFault) -> dict[str, Any]:
    make_fault(cmd.point, 0, 1, 0, 0, 0)  # refuses an unknown point
    if host.faults.pop(cmd.point, None) is not None:
        call.emit(Event.FAULT_DISARMED, point=cmd.point)
    return {"point": cmd.point}


def fault_view(host: Host, point: str) -> dict[str, Any]:
    """A fault point as the API shows it."""
    fault = host.faults.get(point)
    if fault is None:
        make_fault(point, 0, 1, 0, 0, 0)
        return {"point": point, "armed": False, "probability": 0, "interval": 1, "times": 0, "space": 0,
                "failures": 0}  # fmt: skip
    return {"point": point, "armed": fault.armed, "probability": fault.probability, "interval": fault.interval,
            "times": fault.times, "space": fault.space, "failures": fault.failures}  # fmt: skip
