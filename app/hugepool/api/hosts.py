"""Hosts: create, import, list, show, delete."""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import at_hand, document, emptied, outcome, rendered, service_of, tagged
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath, Limit
from hugepool.api.fleet import LISTED, View, Which, summaries
from hugepool.api.fleet_view import HostSummaryPage
from hugepool.api.paging import ListPage, NameCursor
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, Creating, IfNoneMatch
from hugepool.forms.bodies import HostBody
from hugepool.forms.bodies import Kernel as KnownKernel
from hugepool.forms.fields import host_name
from hugepool.fs.apart import read_apart
from hugepool.fs.machine import read_machine
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.boot.spec import HostSpec
from hugepool.mm.machine import state
from hugepool.mm.views import host_view
from hugepool.mm.views.host_view import Host, HostRow, Identity
from hugepool.service import Filter, ForkOf, InState, Reply

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts", tags=["hosts"])
Name = Annotated[str, Query(description="Name of the new host.", examples=["prod-17"])]
Series = Annotated[
    bool,
    Query(
        description="A later look at the machine: a host of this name becomes what it is now, as its next revision."
    ),
]
Kernel = Annotated[
    KnownKernel | None, Query(description="Rule set of a kernel version; else guessed from the files.")
]
Archive = Annotated[
    bytes,
    Body(
        media_type="application/gzip",
        min_length=1,
        description="A tar of files of /proc and /sys, plain or packed by gzip, xz, bzip2 or zstd.",
    ),
]
CREATED = changing(409, status=201)
CREATED.pop(412)
IMPORTED = changing(409, status=201)
IMPORTED[200] = {
    **IMPORTED[201],
    "model": Host,
    "description": "A later look: the host has one more revision.",
}
NS_PER_S = 1_000_000_000


@router.post("", status_code=201, response_model=Host, responses=CREATED)
def create_host(request: Request, conditions: Creating, body: HostBody = examples.HOST) -> Response:
    """Boot a machine from a spec, read a real one from its files, or copy a host."""
    reply = service_of(request).create(
        body.name, source_of(body), conditions.terms(request, body), host_view.host, body.labels
    )
    return _created(request, body.name, reply)


@router.post("/import", status_code=201, response_model=Host, responses=IMPORTED)
def import_host(
    request: Request,
    conditions: Changing,
    name: Name,
    body: Archive,
    kernel: Kernel = None,
    series: Series = False,
) -> Response:
    """Read a real machine from an archive of its /proc and /sys: what `/collect.sh` writes, or a sosreport.

    meminfo, zoneinfo and buddyinfo are needed; pagetypeinfo, vmstat, cmdline, and the hugepages, node and
    memory folders of /sys are used when they are there.  With meminfo alone the host is approximate.
    """
    name, service = host_name(name, "query name"), service_of(request)
    archive = read_apart(body)
    image, terms = read_machine(archive.files, kernel), conditions.terms(request, body)
    taken_ns = archive.taken_s * NS_PER_S or None
    if not series:
        return _created(request, name, service.create(name, image, terms, host_view.host, None, taken_ns))
    reply = service.follow(name, image, terms, host_view.host, taken_ns)
    is_new = reply.revision == 1 and not conditions.dry_run
    return _created(request, name, reply) if is_new else outcome(request, reply)


@router.get("", response_model=ListPage[HostRow] | HostSummaryPage, responses=LISTED)
def list_hosts(
    request: Request, which: Which, limit: Limit = 100, cursor: NameCursor = None, view: View = None
) -> Response:
    """Hosts in order of their names; with `view=summary`, or a filter, with the figures of each."""
    if view is not None or which != Filter():
        return summaries(request, which, limit, cursor)
    items, last = service_of(request).list(limit, cursor)
    return document(ListPage(items, last))


@router.get("/{host}", response_model=Host, responses=reading())
async def get_host(request: Request, host: HostInPath, _: IfNoneMatch = None) -> Response:
    """A host: its memory, zones, huge pages, vmemmap, memory blocks, and every fault that is armed."""

    def answer(wait: bool) -> Response:  # at_hand gives it
        shown, revision = service_of(request).show(host, _rendered, wait=wait)
        return tagged(request, shown, revision)

    return await at_hand(request, host, answer)


@router.delete("/{host}", status_code=204, responses=changing(status=204, body=False))
def delete_host(request: Request, host: HostInPath, conditions: Changing) -> Response:
    """Forget a host and its history."""
    return emptied(request, service_of(request).delete(host, conditions.terms(request, None)))


def source_of(body: HostBody) -> HostSpec | MachineImage | ForkOf | InState:
    """What a new host is made of."""
    if body.state is not None:
        return InState(body.state, body.spec)
    if body.files is not None:
        return read_machine(body.files, body.kernel)
    if body.spec is not None:
        return body.spec.spec()
    return ForkOf(body.fork_of or "")


def _rendered(machine: state.Host, identity: Identity) -> bytes:
    """The summary of a host as it is sent; asked so often that it is kept."""
    return rendered(host_view.host(machine, identity))


def _created(request: Request, name: str, reply: Reply) -> Response:
    if reply.error is not None:
        return outcome(request, reply)
    return outcome(request, reply, 201, {"Location": f"/v1/hosts/{name}"})
