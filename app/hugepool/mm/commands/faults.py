"""Arming and disarming fault points."""

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.registry import handles
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import check_point, make_fault
from hugepool.mm.machine.outcomes import Disarmed, Fault
from hugepool.mm.machine.state import Call, Host


@handles(c.SetFault)
def set_fault(host: Host, call: Call, cmd: c.SetFault) -> Fault:
    point = check_point(cmd.point)
    fault = make_fault(cmd.point, cmd.probability, cmd.interval, cmd.times, cmd.space, host.seed)
    host.faults[cmd.point] = fault
    call.emit(Event.FAULT_ARMED, point=cmd.point)
    return Fault.of(point, fault)


@handles(c.ClearFault)
def clear_fault(host: Host, call: Call, cmd: c.ClearFault) -> Disarmed:
    point = check_point(cmd.point)
    if host.faults.pop(cmd.point, None) is not None:
        call.emit(Event.FAULT_DISARMED, point=cmd.point)
    return Disarmed(point)
