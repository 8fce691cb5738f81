"""virtio-mem devices: what the hypervisor asks for, and what the machine's driver makes of it."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, create, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.devices import VirtioMemBody, VirtioMemRequestBody
from hugepool.mm.commands.commands import RemoveVirtioMem, RetryVirtioMem
from hugepool.mm.machine.memory_outcomes import RemovedDevice, VirtioMemDevice, VirtioMemRun
from hugepool.mm.views.device_view import VirtioMemList, device, devices

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}/virtio-mem", tags=["virtio-mem"])
MAX_ID = 63
DeviceInPath = Annotated[str, Path(description="Name of the device.", examples=["vm0"])]


@router.post("", status_code=201, response_model=VirtioMemRun, responses=changing(409, status=201))
def add_virtio_mem(
    request: Request, host: HostInPath, conditions: Changing, body: VirtioMemBody = examples.VIRTIO_MEM
) -> Response:
    """Give the machine a virtio-mem device; its driver plugs what is requested, as far as it can."""
    place = f"virtio-mem/{body.id}"
    return create(request, host, body.command(), conditions, body, lambda _: place)


@router.get("", response_model=VirtioMemList, responses=reading())
def list_virtio_mem(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All virtio-mem devices of the host."""
    return read(request, host, devices)


@router.get("/{device_id}", response_model=VirtioMemDevice, responses=reading())
def get_virtio_mem(
    request: Request, host: HostInPath, device_id: DeviceInPath, _: IfNoneMatch = None
) -> Response:
    """One device: what is requested of it, what is plugged, and when its driver tries again."""
    return read(request, host, lambda machine: device(machine, device_id[: MAX_ID + 1]))


@router.put("/{device_id}", response_model=VirtioMemRun, responses=changing(body=True))
def request_virtio_mem(
    request: Request,
    host: HostInPath,
    device_id: DeviceInPath,
    conditions: Changing,
    body: VirtioMemRequestBody = examples.VIRTIO_MEM_REQUEST,
) -> Response:
    """Request another size.  The driver does what it can; `steps`, `errno` and `retry` say how far it came.

    Huge pages in the way are replaced or moved, so that the pool keeps its size; where a restore fails it grows.
    """
    return change(request, host, body.command(device_id[: MAX_ID + 1]), conditions, body)


@router.post("/{device_id}/retry", response_model=VirtioMemRun, responses=changing(body=False))
def retry_virtio_mem(
    request: Request, host: HostInPath, device_id: DeviceInPath, conditions: Changing
) -> Response:
    """The driver's timer fires: it tries again to reach the requested size."""
    return change(request, host, RetryVirtioMem(device_id[: MAX_ID + 1]), conditions)


@router.delete("/{device_id}", response_model=RemovedDevice, responses=changing(409, body=False))
def remove_virtio_mem(
    request: Request, host: HostInPath, device_id: DeviceInPath, conditions: Changing
) -> Response:
    """Take a device away that the machine has no memory of."""
    return change(request, host, RemoveVirtioMem(device_id[: MAX_ID + 1]), conditions)
