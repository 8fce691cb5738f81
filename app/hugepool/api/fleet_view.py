"""What lists of many hosts and the history of one answer, made of stored figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hugepool.fs.figures import NodeFigures, PoolFigures, Series, numbers_of, series, states
from hugepool.mm.machine.units import PAGE_SIZE, size_name
from hugepool.service import Member, Moment, rfc3339


@dataclass(frozen=True, slots=True)
class MemorySummary:
    """Memory in bytes, as MemTotal, MemFree and MemAvailable have it."""

    total_bytes: int
    free_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """One huge page size of the whole host, in huge pages; ``asked_hugepages``: the size last asked for."""

    size: str
    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    max_huge_pages: int
    nr_overcommit_hugepages: int
    asked_hugepages: int


@dataclass(frozen=True, slots=True)
class NodePoolSummary:
    """One huge page size on one node, in huge pages."""

    size: str
    nr_hugepages: int
    free_hugepages: int
    surplus_hugepages: int


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One node."""

    node: int
    total_bytes: int
    free_bytes: int
    hugepages: list[NodePoolSummary]


@dataclass(frozen=True, slots=True)
class VmemmapSummary:
    """What vmemmap freeing saves once its page tables are paid for."""

    bytes_saved: int
    page_table_pages: int


@dataclass(frozen=True, slots=True)
class HostSummary:
    """A host in a list.

    ``states``: what somebody should look at; ``vmemmap_freeing``: new huge pages give their vmemmap back.
    """

    name: str
    kernel: str
    labels: dict[str, str]
    revision: int
    created_at: str
    changed_at: str | None
    vmemmap_freeing: bool
    memory: MemorySummary
    hugepages: list[PoolSummary]
    nodes: list[NodeSummary]
    vmemmap: VmemmapSummary
    faults_armed: int
    deferred_queued: int
    states: list[str]


@dataclass(frozen=True, slots=True)
class HostSummaryPage:
    """A page of hosts with their figures."""

    items: list[HostSummary]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels that a host has now."""

    name: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many hosts were deleted."""

    deleted: int


@dataclass(frozen=True, slots=True)
class History:
    """Figures by revision as a table: ``rows`` have a value for each of ``columns``.

    ``node`` is null in rows of the whole host; ``next_after`` is where the next page begins.
    """

    columns: list[str]
    rows: list[list[int | str | None]]
    next_after: int


def summary(member: Member) -> HostSummary | None:
    """A host in a list; None for one that was deleted meanwhile."""
    found = member.figures
    if found is None:
        return None
    return HostSummary(
        name=member.name,
        kernel=member.kernel,
        labels=member.labels,
        revision=member.revision,
        created_at=member.created_at,
        changed_at=member.changed_at,
        vmemmap_freeing=found.vmemmap_freeing,
        memory=MemorySummary(
            found.total_pages * PAGE_SIZE, found.free_pages * PAGE_SIZE, found.available_pages * PAGE_SIZE
        ),
        hugepages=[_pool(pool) for pool in found.pools],
        nodes=[_node(node, found.pools) for node in found.nodes],
        vmemmap=VmemmapSummary(found.saved_pages * PAGE_SIZE, found.table_pages),
        faults_armed=found.faults_armed,
        deferred_queued=found.queued,
        states=states(found),
    )


def _pool(pool: PoolFigures) -> PoolSummary:
    return PoolSummary(
        size_name(pool.order),
        pool.nr,
        pool.free,
        pool.resv,
        pool.surplus,
        pool.max,
        pool.overcommit,
        pool.asked,
    )


def _node(node: NodeFigures, pools: Sequence[PoolFigures]) -> NodeSummary:
    parts = [
        NodePoolSummary(size_name(pool.order), part.nr, part.free, part.surplus)
        for pool, part in zip(pools, node.pools, strict=True)
    ]
    return NodeSummary(node.nid, node.total_pages * PAGE_SIZE, node.free_pages * PAGE_SIZE, parts)


# -- tables ------------------------------------------------------------------------------------------------

FLEET_COLUMNS = (
    "name", "kernel", "labels", "revision", "changed_at", "vmemmap_freeing", "total_bytes", "free_bytes",
    "available_bytes", "bytes_saved", "page_table_pages", "faults_armed", "states", "size", "nr_hugepages",
    "free_hugepages", "resv_hugepages", "surplus_hugepages", "max_huge_pages", "asked_hugepages",
)  # fmt: skip


def fleet_rows(hosts: Sequence[HostSummary]) -> list[list[Any]]:
    """One row for each host and huge page size."""
    return [
        [
            host.name, host.kernel, " ".join(f"{key}={value}" for key, value in host.labels.items()), host.revision,
            host.changed_at, str(host.vmemmap_freeing).lower(), host.memory.total_bytes, host.memory.free_bytes,
            host.memory.available_bytes, host.vmemmap.bytes_saved, host.vmemmap.page_table_pages,
            host.faults_armed, " ".join(host.states), pool.size, pool.nr_hugepages, pool.free_hugepages,
            pool.resv_hugepages, pool.surplus_hugepages, pool.max_huge_pages, pool.asked_hugepages,
        ]
        for host in hosts
        for pool in host.hugepages
    ]  # fmt: skip


KEYS = ("revision", "at", "cause", "node", "size")
VALUES = (
    "nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "max_huge_pages", "asked_hugepages",
    "total_bytes", "free_bytes", "available_bytes", "bytes_saved", "page_table_pages",
)  # fmt: skip


def history_rows(moments: Sequence[Moment], fields: Sequence[str]) -> list[list[Any]]:
    """For each revision and size a row of the whole host, then one for each node; ``fields`` of ``VALUES``.

    Moments of one layout, which are nearly all of a host's, are taken apart together.
    """
    picked = [VALUES.index(field) for field in fields]
    found: list[list[Any]] = []
    rows = [(moment, numbers_of(moment.figures)) for moment in moments]
    for _, same in groupby(rows, key=lambda row: row[1].size):
        part = list(same)
        heads = [(moment.revision, rfc3339(moment.at_ns), moment.cause) for moment, _ in part]
        found += _rows_of_one_layout(heads, series([numbers for _, numbers in part]), picked)
    return found


def _rows_of_one_layout(
    heads: list[tuple[int, str, str]], columns: Sequence[Series], picked: Sequence[int]
) -> Iterator[list[Any]]:
    nothing = [None] * len(heads)
    kinds = [
        (each.nid, size_name(each.order), [nothing if v is None else v for v in _values(each, picked)])
        for each in columns
    ]
    lines = [zip(*values, strict=True) if values else ((),) * len(heads) for _, _, values in kinds]
    for head, *values in zip(heads, *lines, strict=True):
        for (nid, size, _), figures in zip(kinds, values, strict=True):
            yield [*head, nid, size, *figures]


def _values(each: Series, picked: Sequence[int]) -> list[list[int] | None]:
    """A list of values for each picked figure; None where the row has no such figure."""
    return [each.values.get(VALUES[i]) for i in picked]
