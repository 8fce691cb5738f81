"""Snapshots of a host, and back to them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import emptied, outcome, service_of, tagged
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import ResetBody
from hugepool.forms.fields import NAME_PATTERN, host_name
from hugepool.mm.views.host_view import Host
from hugepool.service import Snapshot

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}", tags=["snapshots"])
SnapshotInPath = Annotated[
    str,
    Path(
        description="Name of the snapshot.", json_schema_extra={"pattern": NAME_PATTERN}, examples=["ready"]
    ),
]


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """All snapshots of a host, by name."""

    items: list[Snapshot]


@router.put("/snapshots/{snapshot}", status_code=201, response_model=Snapshot,
            responses=changing(507, status=201, body=False))  # fmt: skip
def keep_snapshot(
    request: Request, host: HostInPath, snapshot: SnapshotInPath, conditions: Changing
) -> Response:
    """Keep the host as it is now, in place of an earlier snapshot of that name.

    The machine is kept with its tasks, faults and queues; the host's name, labels, console and history are not.
    """
    name = host_name(snapshot, "snapshot")
    reply = service_of(request).keep_snapshot(host, name, conditions.terms(request, None))
    return outcome(request, reply, 201, {"Location": f"/v1/hosts/{host}/snapshots/{name}"})


@router.get("/snapshots", response_model=SnapshotList, responses=reading())
def list_snapshots(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """All snapshots of the host."""
    found, revision = service_of(request).snapshots(host)
    return tagged(request, SnapshotList(found), revision)


@router.get("/snapshots/{snapshot}", response_model=Snapshot, responses=reading())
def get_snapshot(
    request: Request, host: HostInPath, snapshot: SnapshotInPath, _: IfNoneMatch = None
) -> Response:
    """One snapshot: of which revision it is, and when it was taken."""
    found, revision = service_of(request).snapshot(host, snapshot)
    return tagged(request, found, revision)


@router.delete("/snapshots/{snapshot}", status_code=204, responses=changing(status=204, body=False))
def delete_snapshot(
    request: Request, host: HostInPath, snapshot: SnapshotInPath, conditions: Changing
) -> Response:
    """Forget a snapshot; the host stays as it is."""
    return emptied(
        request, service_of(request).delete_snapshot(host, snapshot, conditions.terms(request, None))
    )


@router.post("/reset", response_model=Host, responses=changing())
def reset_host(
    request: Request, host: HostInPath, conditions: Changing, body: ResetBody = examples.RESET
) -> Response:
    """Make the host what it was in a snapshot: its next revision; its labels, console and history go on."""
    return outcome(request, service_of(request).reset(host, body.to, conditions.terms(request, body)))
