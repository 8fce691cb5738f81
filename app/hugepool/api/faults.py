"""Fault injection in the kernel's words."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import FaultBody
from hugepool.mm.commands.commands import ClearFault
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.outcomes import Disarmed, Fault
from hugepool.mm.views.fault_view import FaultList, fault, faults

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/faults", tags=["faults"])
PointInPath = Annotated[
    str,
    Path(
        description="Where requests fail.",
        json_schema_extra={"enum": [point.value for point in FaultPoint]},
        examples=[FaultPoint.VMEMMAP_RESTORE.value],
    ),
]
MAX_POINT = 40


@router.get("", response_model=FaultList, responses=reading())
def list_faults(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All fault points, armed or not."""
    return read(request, host, faults)


@router.get("/{point}", response_model=Fault, responses=reading())
def get_fault(request: Request, host: HostInPath, point: PointInPath, _: IfNoneMatch = None) -> Response:
    """One fault point, and how often it has failed a request."""
    return read(request, host, lambda machine: fault(machine, point))


@router.put("/{point}", response_model=Fault, responses=changing())
def set_fault(
    request: Request,
    host: HostInPath,
    point: PointInPath,
    conditions: Changing,
    body: FaultBody = examples.FAULT,
) -> Response:
    """Arm a fault point.  The same host and seed fail the same requests."""
    command = body.command(point[:MAX_POINT])
    return change(request, host, command, conditions, body)


@router.delete("/{point}", response_model=Disarmed, responses=changing(body=False))
def clear_fault(request: Request, host: HostInPath, point: PointInPath, conditions: Changing) -> Response:
    """Disarm a fault point; an unarmed one stays as it is."""
    return change(request, host, ClearFault(point[:MAX_POINT]), conditions)
