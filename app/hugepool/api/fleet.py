"""Many hosts at once: the list with its filters, labels, deleting by filter, and the history of one host."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import Field

from hugepool.api import examples, fleet_view, media
from hugepool.api.answers import document, outcome, service_of
from hugepool.api.documentation import changing, problems, reading
from hugepool.api.fields import HostInPath
from hugepool.api.fleet_view import VALUES, History, HostSummaryPage
from hugepool.api.routing import BlockingRoute
from hugepool.api.terms import Changing, Conditions, DryRun
from hugepool.forms.bodies import LabelsBody
from hugepool.forms.fields import LABEL_PATTERN
from hugepool.mm.machine.errors import BadInput
from hugepool.service import Filter, Moment

router = APIRouter(route_class=BlockingRoute, prefix="/v1/hosts", tags=["hosts"])
NamePattern = Annotated[
    str | None,
    Query(max_length=63, pattern=r"^[a-z0-9*?-]+$", description="Only names like this: `web-*`, `db-0?`."),
]
KernelIs = Annotated[str | None, Query(max_length=20, description="Only hosts with this rule set.")]
PAIR = f"{LABEL_PATTERN[:-1]}={LABEL_PATTERN[1:]}"
Labels = Annotated[
    list[Annotated[str, Field(pattern=PAIR, examples=["rack=7"])]] | None,
    Query(max_length=20, description="Only hosts with this label, `rack=7`; may be repeated."),
]
State = Literal["surplus-stuck", "pool-short", "fault-armed", "deferred-queued", "node-full"]
States = Annotated[
    list[State] | None, Query(max_length=10, description="Only hosts in this state, or in one of several.")
]
View = Annotated[Literal["summary"] | None, Query(description="`summary`: with the figures of each host.")]
Every = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,9}(ms|s|m|h)$",
        description="Only the last revision of each span of this length: `500ms`, `1s`, `5m`, `1h`.",
    ),
]
FIGURE = "|".join(VALUES)
Fields = Annotated[
    str | None,
    Query(
        max_length=400,
        json_schema_extra={"pattern": f"^({FIGURE})(,({FIGURE}))*$"},
        description=f"Which figures, separated by commas, of: {', '.join(VALUES)}.",
    ),
]
After = Annotated[int, Query(ge=0, lt=2**63, description="Only revisions behind this one.")]
HistoryLimit = Annotated[int, Query(ge=1, le=100_000, description="Most revisions in one answer.")]
NS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
TABLE = {"text/csv": {"schema": {"type": "string"}}}
HISTORY = reading()
HISTORY.pop(304)
HISTORY[200] = {"description": "Oldest first.", "content": TABLE}
LISTED = {200: {"description": "As it is now.", "content": TABLE}, **problems(422, 500, 503)}


def which(
    name: NamePattern = None,
    kernel: KernelIs = None,
    label: Labels = None,
    state: States = None,
) -> Filter:
    """The hosts that a query names."""
    labels = {key: value for key, _, value in (text.partition("=") for text in label or ())}
    return Filter(name, kernel, labels, tuple(state or ()))


Which = Annotated[Filter, Depends(which)]


def summaries(request: Request, wanted: Filter, limit: int, cursor: str | None) -> Response:
    """A page of hosts with their figures, as JSON or CSV."""
    members, last = service_of(request).members(wanted, cursor, limit)
    items = [shown for shown in map(fleet_view.summary, members) if shown is not None]
    if media.wanted(request, media.JSON, media.CSV) == media.CSV:
        headers = {"Link": f'<{request.url.include_query_params(cursor=last)}>; rel="next"'} if last else {}
        return media.as_csv(fleet_view.FLEET_COLUMNS, fleet_view.fleet_rows(items), headers)
    return document(HostSummaryPage(items, last))


@router.patch("/{host}", response_model=fleet_view.Labelled, responses=changing())
def set_labels(
    request: Request, host: HostInPath, conditions: Changing, body: LabelsBody = examples.LABELS
) -> Response:
    """Give a host other labels, in place of those it has."""
    return outcome(
        request, service_of(request).set_labels(host, body.labels, conditions.terms(request, body))
    )


@router.delete("", response_model=fleet_view.Deleted, responses=problems(422, 500, 503))
def delete_hosts(request: Request, wanted: Which, dry_run: DryRun = False) -> Response:
    """Forget all hosts that a filter names, and their histories.  A filter is required."""
    if wanted == Filter():
        raise BadInput("a filter is needed: name, kernel, label or state", where="query")
    nr_deleted = service_of(request).delete_all(wanted, Conditions(dry_run).terms(request, None))
    return document(fleet_view.Deleted(nr_deleted))


@router.get("/{host}/history", response_model=History, responses=HISTORY, tags=["history"])
def get_history(
    request: Request,
    host: HostInPath,
    after: After = 0,
    limit: HistoryLimit = 1000,
    every: Every = None,
    fields: Fields = None,
) -> Response:
    """Figures by revision as a table; with `Accept: text/csv` as CSV."""
    names = _names(fields)
    moments = service_of(request).history(host, after, limit)
    behind = moments[-1].revision if moments else after
    if every is not None:
        moments = _resampled(moments, _span_ns(every))
    columns, rows = [*fleet_view.KEYS, *names], fleet_view.history_rows(moments, names)
    if media.wanted(request, media.JSON, media.CSV) == media.CSV:
        return media.as_csv(columns, rows)
    return document(History(columns, rows, behind))


def _names(fields: str | None) -> list[str]:
    if fields is None:
        return list(VALUES)
    names = fields.split(",")
    unknown = [name for name in names if name not in VALUES]
    if unknown:
        raise BadInput(f"has no figure {unknown[0][:40]!r}", where="query fields", known=list(VALUES))
    return names


def _span_ns(every: str) -> int:
    number, unit = re.fullmatch(r"([0-9]+)([a-z]+)", every).groups()  # type: ignore[union-attr]  # checked before
    if int(number) == 0:
        raise BadInput("must be more than 0", where="query every")
    return int(number) * NS[unit]


def _resampled(moments: Sequence[Moment], span_ns: int) -> list[Moment]:
    """The last moment of each span of time."""
    last = {moment.at_ns // span_ns: moment for moment in moments}
    return list(last.values())
