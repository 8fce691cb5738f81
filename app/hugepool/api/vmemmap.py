"""The vmemmap: totals, sections, page tables, the walk of a single page; and poisoning one."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from hugepool.api import examples
from hugepool.api.answers import change, read
from hugepool.api.documentation import changing, reading
from hugepool.api.fields import HostInPath, Limit
from hugepool.api.paging import Cursor, page, position
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, IfNoneMatch
from hugepool.forms.bodies import PoisonBody
from hugepool.mm.machine.memory_outcomes import Poisoned
from hugepool.mm.machine.state import Host
from hugepool.mm.views import page_view, section_view
from hugepool.mm.views.page_view import Page
from hugepool.mm.views.section_view import Section, Vmemmap

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts/{host}", tags=["vmemmap"])
SectionInPath = Annotated[int, Path(description="Number of a section of 128 MiB.", examples=[40])]
PfnInPath = Annotated[int, Path(description="Page frame number.", examples=[1310720])]


@router.get("/vmemmap", response_model=Vmemmap, responses=reading())
def get_vmemmap(
    request: Request, host: HostInPath, limit: Limit = 100, cursor: Cursor = None, _: IfNoneMatch = None
) -> Response:
    """Totals of the vmemmap, and one row per section."""
    after = position(cursor)

    def show(machine: Host) -> Vmemmap:
        found = page(section_view.sections(machine, after, limit + 1), limit, lambda row: row.section)
        return section_view.vmemmap(machine, found.items, found.next_cursor)

    return read(request, host, show)


@router.get("/vmemmap/{section}", response_model=Section, responses=reading(examples.SECTION))
def get_section(
    request: Request, host: HostInPath, section: SectionInPath, _: IfNoneMatch = None
) -> Response:
    """The page table of a section's vmemmap, as runs that cover all 512 entries."""
    return read(request, host, lambda machine: section_view.section(machine, section))


@router.get("/pages/{pfn}", response_model=Page, responses=reading(examples.PAGE))
def get_page(request: Request, host: HostInPath, pfn: PfnInPath, _: IfNoneMatch = None) -> Response:
    """What a page is used for, and where its `struct page` lies: the walk of the simulated page table."""
    return read(request, host, lambda machine: page_view.page(machine, pfn))


@router.post("/pages/{pfn}/poison", response_model=Poisoned, responses=changing(409))
def poison_page(
    request: Request,
    host: HostInPath,
    pfn: PfnInPath,
    conditions: Changing,
    body: PoisonBody = examples.POISON,
) -> Response:
    """Take a page out of use for good, and the huge page around it out of its pool."""
    return change(request, host, body.command(pfn), conditions, body)
