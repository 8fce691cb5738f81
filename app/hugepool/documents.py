"""Answers of the service as types: what ``hugepool.client`` gives back.

Made of /openapi.json by ``python -m hugepool.openapi``; changes are made in the classes of the service.
"""

# ruff: noqa: E501

from typing import Any, Literal, NotRequired, TypedDict


class AddedMemory(TypedDict):
    """Memory that was plugged in.

    Attributes:
        blocks: Numbers of its memory blocks.
        start_pfn: Its first page.
        memmap_on_memory: Its vmemmap lies on itself.
    """

    node: int
    blocks: list[int]
    start_pfn: int
    nr_pages: int
    state: Literal["online", "offline"]
    memmap_on_memory: bool


class Counters(TypedDict):
    """Counters of a pool, as sysfs has them, in huge pages.

    Attributes:
        max_huge_pages: The persistent size last agreed: what `/proc/sys/vm/nr_hugepages` reads back.
    """

    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    nr_overcommit_hugepages: int
    max_huge_pages: int


class VmemmapDelta(TypedDict):
    """What a command did to the vmemmap, in pages of 4 KiB.

    Attributes:
        pages_freed: Given back as huge pages were optimised.
        pages_restored: Taken as huge pages had to have their own vmemmap again.
        page_table_pages: Taken for page tables of split sections.
    """

    pages_freed: int
    pages_restored: int
    page_table_pages: int


class AllocatedRange(TypedDict):
    """A range just taken, and what had to move for it.

    Attributes:
        migrated_pages: Single pages that moved.
        migrated_hugepages: Huge pages in use that moved.
        replaced_hugepages: Free huge pages that others took the place of.
        refused_hugepages: Free huge pages whose vmemmap could not be restored: each has made the pool grow
            by one.
        before: The pool of 2 MiB pages before it.
        after: The pool of 2 MiB pages after it.
        id: Its number.
        start_pfn: The first page.
        end_pfn: The page behind the last.
        injected_fault: An armed fault point refused a request of it.
    """

    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta
    id: int
    start_pfn: int
    end_pfn: int
    nr_pages: int
    injected_fault: bool


class Remedy(TypedDict):
    """Something that would help.

    Attributes:
        text: In words.
        steps: As steps of a scenario, where hugepool can do it.
    """

    text: str
    steps: list[dict[str, Any]]


class Drained(TypedDict):
    """What working off the queue of deferred frees did, in huge pages.

    Attributes:
        freed: Given back to the system.
        returned_as_surplus: Back in their pool, as their vmemmap could not be restored.
        queued: Those that still wait.
        injected_fault: An armed fault point refused a request of it.
    """

    freed: int
    returned_as_surplus: int
    vmemmap: VmemmapDelta
    queued: int
    injected_fault: bool


class FailedExpectation(TypedDict):
    """What was expected and is not so."""

    path: str
    expected: Any
    actual: Any
    message: str


class StepAnswer(TypedDict):
    """What a step did, or why not, and what is counted afterwards.

    Attributes:
        result: As the API answers; null when nothing was done.
        summary: Why it was refused or fell short, in sentences; null: it did not.
        remedies: What would help then.
        drained: What the worker for deferred frees did afterwards.
        console: What the kernel printed.
        counters: Pools by size, memory, vmemmap, memory_blocks, deferred_frees.
    """

    label: str | None
    step: str
    result: dict[str, Any] | None
    errno: str | None
    reason: str | None
    detail: str | None
    summary: str | None
    remedies: list[Remedy]
    facts: dict[str, Any]
    signal: str | None
    drained: Drained | None
    console: list[str]
    counters: dict[str, Any]
    failed_expectations: list[FailedExpectation]


class Answer(TypedDict):
    """The answer to a question without variants.

    Attributes:
        ok: Every expectation holds; what was refused or fell short was expected, or might.
        refused: How many steps were refused.
    """

    ok: bool
    refused: int
    steps: list[StepAnswer]


class Law(TypedDict):
    """One law, held against the host.

    Attributes:
        findings: What is wrong where; empty when all is right.
        known_defect: The kernel's own defect behind the findings, with which the law holds all the same.
    """

    law: str
    ok: bool
    findings: list[str]
    known_defect: str | None


class Audit(TypedDict):
    """All laws.

    Attributes:
        ok: Every law holds.
    """

    ok: bool
    laws: list[Law]


class BlockChange(TypedDict):
    """What writing a memory block's state did.

    Attributes:
        migrated_pages: Single pages that moved.
        migrated_hugepages: Huge pages in use that moved.
        dissolved: Free huge pages that left their pool, by size.
        passes: How often the block was gone through.
        node: Of a block that is online now.
        zone: Of a block that is online now.
        injected_fault: An armed fault point refused a request of it.
    """

    state: Literal["online", "offline"]
    migrated_pages: int
    migrated_hugepages: int
    dissolved: dict[str, int]
    passes: int
    vmemmap: VmemmapDelta
    node: int | None
    zone: Literal["DMA", "DMA32", "Normal", "Movable"] | None
    injected_fault: bool


class Unmovable(TypedDict):
    """Pages of one use that cannot be moved.

    Attributes:
        use: `cma` for a pageblock of an area, else as a page shows it.
        first_pfn: The first of them.
        pids: The tasks that have some of them.
    """

    use: str
    pages: int
    first_pfn: int
    pids: list[int]


class HugePagesInBlock(TypedDict):
    """Huge pages of a size in a block.

    Attributes:
        size: As sysfs writes it.
        optimized: Free ones whose vmemmap has to be restored before they can be dissolved.
        vmemmap_pages_needed: What that takes.
        pids: The tasks that have mapped those in use.
        files: The files that have those in use.
    """

    size: str
    free: int
    in_use: int
    optimized: int
    vmemmap_pages_needed: int
    pids: list[int]
    files: list[str]


class Blockers(TypedDict):
    """What would come of taking a memory block offline now, and all that stands in its way.

    Attributes:
        errno: Of the refusal; null: there would be none.
        reason: Of the refusal, in one word of the documented list.
        detail: Of the refusal, in a sentence.
        zones: Those that it lies in.
        unmovable: By use, the most frequent first; holes are counted apart.
        movable_pages: Single pages that have to move.
        movable_pids: The tasks that have some of them.
        hugepages: By size, the larger first.
        vmemmap_pages_available: What restores may take on the nodes of the block.
        unreserved_hugepages: By size, free huge pages of the host that are promised to nobody.
    """

    can_offline: bool
    errno: str | None
    reason: str | None
    detail: str | None
    block: int
    holes_pages: int
    zones: list[str]
    unmovable: list[Unmovable]
    movable_pages: int
    movable_pids: list[int]
    hugepages: list[HugePagesInBlock]
    vmemmap_pages_available: int
    unreserved_hugepages: dict[str, int]


class FreeArea(TypedDict):
    """Free blocks of one zone: for each migratetype the number of each order, 0 to 10, as in pagetypeinfo."""

    node: int
    zone: str
    free: dict[str, list[int]]


class Formable(TypedDict):
    """How many huge pages of a size could be formed at most; watermarks are not asked.

    Attributes:
        now: Of memory that is free and in one piece.
        after_compaction: When all that can be moved has been moved out of the way.
        after_reclaim: When page cache has been given up besides.
    """

    size: str
    now: int
    after_compaction: int
    after_reclaim: int


class Buddy(TypedDict):
    """What is free, and what it is good for."""

    zones: list[FreeArea]
    hugepages: list[Formable]


class CgroupCounters(TypedDict):
    """What a cgroup has of one huge page size.

    Attributes:
        max: How many pages it may have; null: no limit.
        current: Pages charged to it and to all below.
        failcnt: How often this limit refused a page.
        rsvd_max: How many pages it may reserve; null: no limit.
        rsvd_current: Reservations charged to it and to all below.
        rsvd_failcnt: How often this limit refused a reservation.
        events_max: Refusals of its tasks and of those below, whatever limit refused.
        events_local_max: Refusals of its own tasks.
    """

    max: int | None
    current: int
    failcnt: int
    rsvd_max: int | None
    rsvd_current: int
    rsvd_failcnt: int
    events_max: int
    events_local_max: int


class Cgroup(TypedDict):
    """A control group.

    Attributes:
        path: Below /sys/fs/cgroup; the root: empty.
        hugetlb: By huge page size; empty where the cgroup above does not pass the controller on, and for
            the root.
        controllers: What it can pass on.
        subtree_control: What it passes on; such a cgroup takes no tasks.
        tasks: Pids of the tasks in it.
        children: Paths of the cgroups in it.
    """

    path: str
    hugetlb: dict[str, CgroupCounters]
    controllers: list[str]
    subtree_control: list[str]
    tasks: list[int]
    children: list[str]


class Cgroups(TypedDict):
    """All cgroups of a host."""

    items: list[Cgroup]


class ChangedFile(TypedDict):
    """A file after a change.

    Attributes:
        path: Where it is; null: unlinked and still mapped, or shared anonymous memory.
        size: Its huge page size, as sysfs writes it.
        count: Its length in huge pages (st_size).
        pages: Pages that are there.
        reserved: Pages that are promised and not there.
        blocks: Units of 512 bytes that are there (st_blocks).
        segment: It is a SysV segment.
        pids: Tasks that map it.
        allocated: Huge pages that it got.
        freed: Huge pages of it that nobody has any more.
        queued: Huge pages that wait for the worker that frees them.
        injected_fault: An armed fault point refused a request of it.
    """

    path: str | None
    size: str
    count: int
    pages: int
    reserved: int
    blocks: int
    segment: bool
    pids: list[int]
    allocated: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool


class Percentiles(TypedDict):
    """Over the seeds, nearest rank."""

    p0: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    p100: int


class ChurnHistory(TypedDict):
    """What came of a seed: pages that can be formed, by size."""

    seed: int
    running: dict[str, int]
    after_exit: dict[str, int]


class Churn(TypedDict):
    """Huge pages that can be formed, by size: each size as if the other were left alone.

    Attributes:
        running: While the programs run.
        after_exit: When all that can be moved is free.
    """

    rounds: int
    unmovable_percent: int
    fill_percent: int
    now: dict[str, int]
    running: dict[str, Percentiles]
    after_exit: dict[str, Percentiles]
    seeds: list[ChurnHistory]


class ContigRange(TypedDict):
    """A range taken by alloc_contig_range, in pages of 4 KiB.

    Attributes:
        id: Its number.
        start_pfn: The first page.
        end_pfn: The page behind the last.
    """

    id: int
    start_pfn: int
    end_pfn: int
    nr_pages: int


class ContigRangePage(TypedDict):
    """A part of a list.

    Attributes:
        next_cursor: For `cursor` of the next request; null: there are no more.
    """

    items: list[ContigRange]
    next_cursor: str | None


class Created(TypedDict):
    """Hosts that were made: how many, and their names in order."""

    created: int
    hosts: list[str]


class QueuedFree(TypedDict):
    """A huge page that waits for the worker.

    Attributes:
        pfn: Its first page.
        size: As sysfs writes it.
    """

    pfn: int
    size: str


class DeferredFrees(TypedDict):
    """The queue of the worker that restores the vmemmap of huge pages and frees them.

    Attributes:
        mode: Who works it off: `auto` the service's worker, `manual` only a drain or a resize.
        queued: The oldest first; worked off from the other end.
    """

    mode: Literal["auto", "manual"]
    queued: list[QueuedFree]


class Deleted(TypedDict):
    """How many hosts were deleted."""

    deleted: int


class SizedCounters(TypedDict):
    """Counters of a pool, and of which.

    Attributes:
        max_huge_pages: The persistent size last agreed: what `/proc/sys/vm/nr_hugepages` reads back.
        size: The huge page size, as sysfs writes it.
    """

    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    nr_overcommit_hugepages: int
    max_huge_pages: int
    size: str


class Demotion(TypedDict):
    """What demoting gigantic pages did.

    Attributes:
        demoted: Gigantic pages that were split.
        before: Their pool before it.
        after: Their pool after it.
        target: The pool that has the parts.
        injected_fault: An armed fault point refused a request of it.
    """

    requested: int
    demoted: int
    before: Counters
    after: Counters
    target: SizedCounters
    vmemmap: VmemmapDelta
    injected_fault: bool

FaultPoint = Literal["vmemmap-restore", "vmemmap-page-table", "hugepage-alloc", "migration-target", "vmemmap-head-frame"]


class Disarmed(TypedDict):
    """A fault point that is disarmed now."""

    point: FaultPoint


class Dmesg(TypedDict):
    """The console, the oldest line first."""

    lines: list[str]


class EventRow(TypedDict):
    """Something that happened to a host.

    Attributes:
        id: 1, 2, 3 ... within the host.
        revision: The host's revision after the change that it is part of.
        time: In UTC (RFC 3339).
        by: Name of the token that was used; null without tokens, and for the worker.
        type: In the past tense, such as `PoolResized`; docs/http.md lists them.
        data: Facts, by the type.
    """

    id: int
    revision: int
    time: str
    by: str | None
    type: str
    data: dict[str, Any]


class EventPage(TypedDict):
    """A piece of history, the oldest first.

    Attributes:
        next_after: For `after` of the next request.
    """

    items: list[EventRow]
    next_after: int


class ExitedTask(TypedDict):
    """What the end of a process did.

    Attributes:
        freed_pages: Its single pages of 4 KiB.
        queued: Huge pages that wait for the worker that frees them.
        injected_fault: An armed fault point refused a request of it.
    """

    pid: int
    freed_pages: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool


class Explanation(TypedDict):
    """An answer in sentences.

    Attributes:
        summary: What is, or would be, and why; with numbers.
        facts: The numbers behind the sentences.
        remedies: What would help where something is stuck or short; each with steps of a scenario.
    """

    summary: str
    facts: dict[str, Any]
    remedies: list[Remedy]


class Fault(TypedDict):
    """One fault point, in the kernel's words.

    Attributes:
        point: Where requests fail.
        armed: It can still fail a request.
        probability: Percent of the requests that fail.
        interval: Only every n-th request may fail.
        times: How many failures are left; -1: no limit.
        space: Failing begins with this page; 0 and 1: at once.
        failures: Requests that it has failed.
    """

    point: FaultPoint
    armed: bool
    probability: int
    interval: int
    times: int
    space: int
    failures: int


class FaultList(TypedDict):
    """All fault points, armed or not."""

    items: list[Fault]


class FeedItem(TypedDict):
    """One change of one host.

    Attributes:
        seq: Number of the change, rising over all hosts.
        type: The event that made the change, `HostDeleted` for the last one of a host.
    """

    seq: int
    host: str
    revision: int
    time: str
    type: str


class Feed(TypedDict):
    """Changes of all hosts, oldest first; ``next_after`` is where the next page begins."""

    items: list[FeedItem]
    next_after: int


class NodePool(TypedDict):
    """Pages of a node."""

    node: int
    nr_hugepages: int

Reason = Literal["vmemmap-restore", "injected-fault", "watermark", "no-contiguous-memory", "in-use", "reserved", "surplus-not-retried", "other-node", "pool-exhausted", "memory-holes", "multizone-range", "poison-lost", "in-flight", "memory-present", "device-exists", "device-memory", "device-plugged", "block-online", "vmemmap-populate", "unmovable-page", "all-free-pages-reserved", "livelock", "migration-target", "parse", "gigantic-page", "read-only", "write-only", "is-a-directory", "not-a-directory", "quota", "cgroup-limit", "cgroup-in-use", "cgroup-populated", "cgroup-internal", "cgroup-exists", "no-such-cgroup", "controller-off", "no-such-task", "mount-full", "mount-busy", "not-mounted", "no-such-file", "beyond-end-of-file", "taken-by-parent", "poisoned-page", "segment-exists", "not-in-shm-group", "oom", "pinned", "not-migratable"]


class OneMore(TypedDict):
    """What asking for one page more comes to."""

    nr_hugepages: int
    available_bytes: int


class LargestPool(TypedDict):
    """The largest pool that works.

    Attributes:
        nr_hugepages: What to write; null when not even the smallest pool leaves enough.
        available_bytes: MemAvailable afterwards.
        limited_by: What stops one page more: `keep`, or a reason; null: nothing does.
    """

    nr_hugepages: int | None
    nodes: list[NodePool]
    available_bytes: int
    free_bytes: int
    limited_by: Literal["keep"] | Reason | None
    one_more: OneMore | None


class LargestPoolOfNode(TypedDict):
    """The same, when only this node's file is written.

    Attributes:
        nr_hugepages: What to write; null when not even the smallest pool leaves enough.
        available_bytes: MemAvailable afterwards.
        limited_by: What stops one page more: `keep`, or a reason; null: nothing does.
    """

    nr_hugepages: int | None
    nodes: list[NodePool]
    available_bytes: int
    free_bytes: int
    limited_by: Literal["keep"] | Reason | None
    one_more: OneMore | None
    node: int


class MaxPool(TypedDict):
    """The largest pools that leave `keep_bytes` available.

    Attributes:
        available_bytes: MemAvailable now.
        without_reclaim: The largest pool for all nodes if no page cache were given up; null: there is none.
    """

    size: str
    keep_bytes: int
    available_bytes: int
    pool: LargestPool
    nodes: list[LargestPoolOfNode]
    without_reclaim: LargestPool | None


class ZoneSavings(TypedDict):
    """What a zone has more of."""

    zone: str
    net_bytes: int


class NodeSavings(TypedDict):
    """What a node has more of."""

    node: int
    hugepages: int
    net_bytes: int
    zones: list[ZoneSavings]


class Savings(TypedDict):
    """What freeing the vmemmap gives.

    Attributes:
        possible: How many of them can be allocated; all figures are of these.
        assumed: The host does not free vmemmap; the figures are as if it did.
        total_gained_bytes: What MemTotal grows by.
    """

    size: str
    count: int
    possible: int
    assumed: bool
    pages_freed_per_hugepage: int
    gross_bytes: int
    page_table_bytes: int
    net_bytes: int
    pool_bytes: int
    total_gained_bytes: int
    nodes: list[NodeSavings]


class CurvePoint(TypedDict):
    """How many pages can be given back when so much is left."""

    left_bytes: int
    freed: int


class HeadroomDomain(TypedDict):
    """Nodes whose vmemmap is restored from the same zones: one node, or since 6.7 all together.

    Attributes:
        needed_bytes: The least that must be left above the watermarks of the kernel zones.
        available_bytes: What is left there now.
        reclaimable_bytes: Clean page cache of the nodes; the driver takes it, too, before less is left.
        limited_by: What stops the shrink with one page less.
    """

    nodes: list[int]
    count: int
    needed_bytes: int
    available_bytes: int
    reclaimable_bytes: int
    limited_by: Reason | None
    curve: list[CurvePoint]


class Headroom(TypedDict):
    """What must stay free so that pages can be given back."""

    size: str
    count: int
    pages_per_hugepage: int
    domains: list[HeadroomDomain]


class TogetherPlan(TypedDict):
    """Blocks that go offline one after the other, in this order.

    Attributes:
        hugepages_lost: What the pools are smaller by afterwards, in blocks of 2 MiB.
    """

    bytes: int
    enough: bool
    hugepages_lost: int
    pages_moved: int
    blocks: list[int]


class BlockPlan(TypedDict):
    """A memory block, tried alone.

    Attributes:
        bytes: Memory that is plugged in it.
        hugepages: 2 MiB blocks of it that are huge pages ...
        free_hugepages: ... and those of them that nobody uses: lost to the pool.
        movable_pages: Pages that have to move, those of huge pages in use among them.
    """

    block: int
    node: int | None
    zones: list[str]
    bytes: int
    hugepages: int
    free_hugepages: int
    movable_pages: int
    can_offline: bool
    errno: str | None
    reason: str | None
    detail: str | None


class Offline(TypedDict):
    """Which memory blocks can go offline."""

    block_size_bytes: int
    wanted_bytes: int | None
    together: TogetherPlan
    blocks: list[BlockPlan]


class NodeRoom(TypedDict):
    """Free huge pages of a node.

    Attributes:
        free_when_touched: When programs have touched all that they have mapped.
    """

    node: int
    free_hugepages: int
    free_when_touched: int


class Start(TypedDict):
    """What starting the machine comes to: mmap, then a touch of every page."""

    fits: bool
    errno: str | None
    reason: Reason | None
    signal: str | None
    touched: int


class Change(TypedDict):
    """What to write so that the machine starts, tried on a copy.

    Attributes:
        write: The per-node `nr_hugepages` files, in this order.
        reclaimed_bytes: Page cache that goes for it, and memory that goes to swap.
    """

    works: bool
    write: list[NodePool]
    missing: int
    limited_by: Reason | None
    reclaimed_bytes: int


class Placement(TypedDict):
    """Whether a virtual machine finds its huge pages.

    Attributes:
        change: Null when it starts either way.
    """

    size: str
    count: int
    nodes: list[NodeRoom]
    now: Start
    when_touched: Start
    change: Change | None


class FleetRow(TypedDict):
    """The answer for one host.

    Attributes:
        revision: Of the host as it was looked at.
        answer: Null where there is none ...
        error: ... and why: errno, detail, reason, facts.
    """

    host: str
    revision: int
    answer: MaxPool | Savings | Headroom | Offline | Placement | Churn | None
    error: dict[str, Any] | None


class FleetAnswer(TypedDict):
    """A plan over many hosts.

    Attributes:
        totals: `hosts`, how many of them were `answered` and `refused`, and sums over the answers.
    """

    plan: str
    totals: dict[str, int]
    hosts: list[FleetRow]


class History(TypedDict):
    """Figures by revision as a table: ``rows`` have a value for each of ``columns``.
    ``node`` is null in rows of the whole host; ``next_after`` is where the next page begins."""

    columns: list[str]
    rows: list[list[int | str | None]]
    next_after: int


class Memory(TypedDict):
    """Managed and free memory.  Pages on the lists of the CPUs are not free, as in MemFree.

    Attributes:
        total_bytes: Managed memory: MemTotal.
    """

    total_bytes: int
    free_bytes: int
    managed_pages: int
    free_pages: int


class Node(TypedDict):
    """One NUMA node.

    Attributes:
        total_bytes: Managed memory: MemTotal.
        node: Its number.
        cpus: Numbers of its CPUs.
        distance: To every node, as firmware says.
        present_pages: Pages of all its zones, holes left out.
    """

    total_bytes: int
    free_bytes: int
    managed_pages: int
    free_pages: int
    node: int
    cpus: list[int]
    distance: list[int]
    present_pages: int


class Zone(TypedDict):
    """One zone; all but its node and name in pages of 4 KiB.

    Attributes:
        spanned: From its first page to its last, holes included.
        present: Without the holes.
        managed: Those of them that the page allocator has.
        min: The watermark that only urgent requests may go below.
        low: The watermark that wakes the reclaim.
        high: The watermark that ends the reclaim.
        lowmem_reserve: What requests that could use a higher zone must leave, by the type of that zone.
    """

    node: int
    name: Literal["DMA", "DMA32", "Normal", "Movable"]
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free: int
    min: int
    low: int
    high: int
    lowmem_reserve: list[int]


class HugePagesOfNode(TypedDict):
    """The huge pages of a size on one node."""

    node: int
    nr_hugepages: int
    free_hugepages: int
    surplus_hugepages: int


class HugePages(TypedDict):
    """The pool of one huge page size.

    Attributes:
        size: As sysfs writes it: `2048kB` or `1048576kB`.
        order: A huge page has two to the power of it pages of 4 KiB.
        nr_hugepages: All of them, surplus included.
        free_hugepages: Those that no program has.
        resv_hugepages: Free ones that are promised to mappings.
        surplus_hugepages: Those above the persistent size.
        max_huge_pages: The persistent size last agreed: what `/proc/sys/vm/nr_hugepages` reads back.
        nr_overcommit_hugepages: How many surplus pages may be made on demand.
        nr_free_vmemmap_pages: Vmemmap pages that one optimised huge page gives back.
        optimized_hugepages: Those whose vmemmap is given back.
        nodes: Those that have a hugepages folder.
    """

    size: str
    order: int
    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    max_huge_pages: int
    nr_overcommit_hugepages: int
    nr_free_vmemmap_pages: int
    optimized_hugepages: int
    nodes: list[HugePagesOfNode]


class VmemmapTotals(TypedDict):
    """What vmemmap freeing has done, in pages of 4 KiB.

    Attributes:
        sections: Those of 128 MiB that have a vmemmap.
        sections_split: Those of them that are mapped by a page table.
        page_table_pages: What these page tables take.
        pages_freed: What huge pages give back; frames that got lost on the way (5.14, hot-added memory) are
            not.
        bytes_saved: What is freed less the page tables that it took, and less the lost frames.
    """

    sections: int
    sections_split: int
    page_table_pages: int
    pages_freed: int
    bytes_saved: int


class MemoryBlockCount(TypedDict):
    """How large memory blocks are, and how many are online and offline.

    Attributes:
        offline: Those with an offline section.
    """

    size_bytes: int
    online: int
    offline: int


class CmaArea(TypedDict):
    """Memory set aside at boot for contiguous ranges; movable pages use it meanwhile.  Pages of 4 KiB.

    Attributes:
        name: As `cma=` or `hugetlb_cma=` names it.
        base_pfn: Its first page.
        taken_pages: Those that ranges or gigantic pages have.
    """

    name: str
    base_pfn: int
    nr_pages: int
    taken_pages: int
    node: int


class DeferredCount(TypedDict):
    """How many huge pages wait for the worker that restores their vmemmap and frees them.

    Attributes:
        mode: Who works off the queue: `auto` the service's worker, `manual` only a drain or a resize.
    """

    mode: Literal["auto", "manual"]
    queued: int


class Host(TypedDict):
    """A host in full.

    Attributes:
        revision: Counts its changes; 0 in a dry run.
        created_at: Time in UTC (RFC 3339); null in a dry run.
        kernel: The version whose rules it follows.
        cmdline: Parameters that it was booted with.
        seed: What all chance of this host begins with.
        zones: Those that span pages.
        hugepages: By size, the smaller first.
        faults: The points that were armed and not disarmed since.
        tasks: How many there are.
        assumptions: Of an imported machine: what no file said and what was taken instead, a sentence each.
        approximate: It stands for a machine of which only meminfo was given.
    """

    name: str
    revision: int
    created_at: str | None
    kernel: str
    cmdline: str
    seed: int
    memory: Memory
    nodes: list[Node]
    zones: list[Zone]
    hugepages: list[HugePages]
    vmemmap: VmemmapTotals
    memory_blocks: MemoryBlockCount
    cma_areas: list[CmaArea]
    deferred_frees: DeferredCount
    faults: list[Fault]
    tasks: int
    assumptions: list[str]
    approximate: bool


class HostRow(TypedDict):
    """A host in a list.

    Attributes:
        revision: Counts its changes; 0 in a dry run.
        created_at: Time in UTC (RFC 3339); null in a dry run.
        kernel: The version whose rules it follows.
        cmdline: Parameters that it was booted with.
    """

    name: str
    revision: int
    created_at: str | None
    kernel: str
    cmdline: str


class HostRowPage(TypedDict):
    """A part of a list.

    Attributes:
        next_cursor: For `cursor` of the next request; null: there are no more.
    """

    items: list[HostRow]
    next_cursor: str | None


class MemorySummary(TypedDict):
    """Memory in bytes, as MemTotal, MemFree and MemAvailable have it."""

    total_bytes: int
    free_bytes: int
    available_bytes: int


class PoolSummary(TypedDict):
    """One huge page size of the whole host, in huge pages; ``asked_hugepages``: the size last asked for."""

    size: str
    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    max_huge_pages: int
    nr_overcommit_hugepages: int
    asked_hugepages: int


class NodePoolSummary(TypedDict):
    """One huge page size on one node, in huge pages."""

    size: str
    nr_hugepages: int
    free_hugepages: int
    surplus_hugepages: int


class NodeSummary(TypedDict):
    """One node."""

    node: int
    total_bytes: int
    free_bytes: int
    hugepages: list[NodePoolSummary]


class VmemmapSummary(TypedDict):
    """What vmemmap freeing saves once its page tables are paid for."""

    bytes_saved: int
    page_table_pages: int


class HostSummary(TypedDict):
    """A host in a list.
    ``states``: what somebody should look at; ``vmemmap_freeing``: new huge pages give their vmemmap back."""

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


class HostSummaryPage(TypedDict):
    """A page of hosts with their figures."""

    items: list[HostSummary]
    next_cursor: str | None


class HugePagesList(TypedDict):
    """All huge page sizes, the smaller first."""

    items: list[HugePages]


class HugetlbFile(TypedDict):
    """A file of huge pages, or a SysV segment.

    Attributes:
        path: Where it is; null: unlinked and still mapped, or shared anonymous memory.
        size: Its huge page size, as sysfs writes it.
        count: Its length in huge pages (st_size).
        pages: Pages that are there.
        reserved: Pages that are promised and not there.
        blocks: Units of 512 bytes that are there (st_blocks).
        segment: It is a SysV segment.
        pids: Tasks that map it.
    """

    path: str | None
    size: str
    count: int
    pages: int
    reserved: int
    blocks: int
    segment: bool
    pids: list[int]


class HugetlbFiles(TypedDict):
    """All files of huge pages of a host."""

    items: list[HugetlbFile]


class HugetlbfsMount(TypedDict):
    """A hugetlbfs mount.

    Attributes:
        path: Where it is mounted.
        size: Its huge page size, as sysfs writes it.
        max: `size=`; null: no limit.
        min: `min_size=`, reserved for it in the pool; null: nothing.
        used: Pages and reservations that count for `max`; null without one.
        min_left: What is reserved of `min` and not used.
        pages: Pages of its files.
        files: Paths of its files; unlinked ones have none.
    """

    path: str
    size: str
    max: int | None
    min: int | None
    used: int | None
    min_left: int
    pages: int
    files: list[str]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class Job(TypedDict):
    """A job in full.

    Attributes:
        done: How much of it is done ...
        total: ... of how much.
        result: When it is done: what the request that began it asked for.
        error: When it has failed: why.
    """

    id: str
    kind: str
    state: JobState
    done: int
    total: int
    created_at: str
    ended_at: str | None
    result: Any
    error: str | None


class JobRow(TypedDict):
    """A job in a list.

    Attributes:
        done: How much of it is done ...
        total: ... of how much.
    """

    id: str
    kind: str
    state: JobState
    done: int
    total: int
    created_at: str
    ended_at: str | None


class JobList(TypedDict):
    """All jobs of this process."""

    items: list[JobRow]


class Labelled(TypedDict):
    """The labels that a host has now."""

    name: str
    labels: dict[str, str]


class Symlink(TypedDict):
    """A link in a folder.

    Attributes:
        mode: Permissions in octal digits.
        target: Where it leads, relative to its folder, as readlink(2) answers.
    """

    name: str
    type: Literal["file", "directory", "symlink"]
    mode: str
    target: str


class Entry(TypedDict):
    """One name in a folder.

    Attributes:
        mode: Permissions in octal digits.
    """

    name: str
    type: Literal["file", "directory", "symlink"]
    mode: str


class Listing(TypedDict):
    """What a folder holds."""

    entries: list[Symlink | Entry]


class Live(TypedDict):
    """The process answers."""

    status: Literal["ok"]


class MadeSegment(TypedDict):
    """A SysV segment that was just made.

    Attributes:
        path: Where it is; null: unlinked and still mapped, or shared anonymous memory.
        size: Its huge page size, as sysfs writes it.
        count: Its length in huge pages (st_size).
        pages: Pages that are there.
        reserved: Pages that are promised and not there.
        blocks: Units of 512 bytes that are there (st_blocks).
        segment: It is a SysV segment.
        pids: Tasks that map it.
        injected_fault: An armed fault point refused a request of it.
    """

    path: str | None
    size: str
    count: int
    pages: int
    reserved: int
    blocks: int
    segment: bool
    pids: list[int]
    vmemmap: VmemmapDelta
    injected_fault: bool


class MemoryBlock(TypedDict):
    """One memory block, in pages of 4 KiB.

    Attributes:
        block: Its number.
        phys_index: The same as sysfs writes it, in hexadecimal digits.
        state: `offline` with any section of it.
        node: Null for a block whose memory belongs to no node.
        zone: Null when it is offline, or lies in several zones.
        valid_zones: Where it may go, the default first; of an online block, where it is.
        removable: Always true, as in every kernel since 5.5.
        start_pfn: Its first page.
        hugepages: By size, those that lie in it wholly or in part.
        device: The virtio-mem device that plugged it; null: none.
    """

    block: int
    phys_index: str
    state: Literal["online", "offline"]
    node: int | None
    zone: str | None
    valid_zones: str
    removable: bool
    start_pfn: int
    nr_pages: int
    free_pages: int
    hugepages: dict[str, int]
    device: str | None


class MemoryBlockPage(TypedDict):
    """A part of a list.

    Attributes:
        next_cursor: For `cursor` of the next request; null: there are no more.
    """

    items: list[MemoryBlock]
    next_cursor: str | None


class NodeUses(TypedDict):
    """Pages of one node by what they are used for; a use that no page has is left out."""

    node: int
    uses: dict[str, int]


class MemoryPicture(TypedDict):
    """Physical memory cut into bins of the same number of pages; every list has a value for each bin.

    Attributes:
        start_pfn: First page of the first bin.
        end_pfn: The page behind the last bin.
        bin_pages: Pages of a bin; the last one may be shorter.
        bins: First page of each bin.
        uses: Pages in each bin by what they are used for; a use that no page has is left out.
        node: NUMA node of the bin's first memory, null where it has none.
        zone: Zone of the bin's first memory, null where it is offline or none.
        split_sections: Sections whose vmemmap mapping is split and that begin in the bin.
        unmovable_blocks: Pageblocks of the bin in which memory is that cannot be moved.
        by_node: Pages of the whole range by node and by what they are used for.
    """

    start_pfn: int
    end_pfn: int
    bin_pages: int
    bins: list[int]
    uses: dict[str, list[int]]
    node: list[int | None]
    zone: list[str | None]
    split_sections: list[int]
    unmovable_blocks: list[int]
    by_node: list[NodeUses]


class MountedHugetlbfs(TypedDict):
    """A mount that was just made.

    Attributes:
        path: Where it is mounted.
        size: Its huge page size, as sysfs writes it.
        max: `size=`; null: no limit.
        min: `min_size=`, reserved for it in the pool; null: nothing.
        used: Pages and reservations that count for `max`; null without one.
        min_left: What is reserved of `min` and not used.
        pages: Pages of its files.
        files: Paths of its files; unlinked ones have none.
        injected_fault: An armed fault point refused a request of it.
    """

    path: str
    size: str
    max: int | None
    min: int | None
    used: int | None
    min_left: int
    pages: int
    files: list[str]
    injected_fault: bool


class Mounts(TypedDict):
    """All hugetlbfs mounts of a host."""

    items: list[HugetlbfsMount]


class Overcommit(TypedDict):
    """What setting the limit of surplus pages did.

    Attributes:
        before: The pool before it.
        after: The pool after it.
    """

    requested: int
    before: Counters
    after: Counters


class BuddyBlock(TypedDict):
    """The free block that a free page belongs to.

    Attributes:
        order: It has two to the power of it pages.
        head_pfn: Its first page.
    """

    order: int
    head_pfn: int


class HugePage(TypedDict):
    """The huge page around a page.

    Attributes:
        size: As sysfs writes it.
        head_pfn: Its first page.
        free: No program has it.
        optimized: Its vmemmap is given back.
        queued: It waits for the worker that restores its vmemmap and frees it.
        pid: The task that has mapped it, or one of them.
        file: Path of the file that it is in.
        cgroup: The one that it is charged to; null: the root, or nobody.
    """

    size: str
    head_pfn: int
    free: bool
    optimized: bool
    queued: bool
    pid: int | None
    file: str | None
    cgroup: str | None


class StructPage(TypedDict):
    """Where a `struct page` lies: the walk of the simulated page table.

    Attributes:
        virtual_address: In hexadecimal digits, as it is larger than what every reader of JSON keeps
            exactly.
        pfn: The frame that it is in.
        mapping: How that frame is mapped: `pmd` with its whole section, `pte` by a page table.
        writable: False for the frame that an optimised huge page shares.
    """

    virtual_address: str
    pfn: int
    mapping: Literal["pmd", "pte"]
    writable: bool


class Page(TypedDict):
    """One page.  What its use has nothing to do with is null.

    Attributes:
        zone: Null for memory of an offline block.
        block: The memory block.
        use: What it is used for: `buddy` (free), `hugetlb`, `vmemmap`, `page-table`, `anon`, `kernel` and
            others.
        buddy: Of a free page.
        hugepage: Of a page in a huge page.
        origin: Of a page of the vmemmap, where it came from.
        page_table_of_section: Of a page table of the vmemmap.
        pid: Of memory of a task; null also when no task is known to have it.
        struct_page: Null where there is no vmemmap.
    """

    pfn: int
    node: int
    zone: str | None
    section: int
    block: int
    pageblock_migratetype: str
    use: str
    buddy: BuddyBlock | None
    hugepage: HugePage | None
    origin: Literal["boot", "buddy", "hot-added", "own-block"] | None
    page_table_of_section: int | None
    pid: int | None
    struct_page: StructPage | None


class Poisoned(TypedDict):
    """What became of a poisoned page.

    Attributes:
        mode: `hard`: it turned bad; `soft`: it is taken out before it does.
        action: `taken` from the free pages, `unmapped` from its task, `migrated`, `dissolved` with the huge
            page around it, `kept` in the pool although the kernel reports success (5.14), `ignored`, or
            `lost` with its whole huge page.
        poisoned_pages: Of the host, all in all.
        injected_fault: An armed fault point refused a request of it.
    """

    pfn: int
    mode: Literal["hard", "soft"]
    action: Literal["taken", "unmapped", "migrated", "dissolved", "kept", "ignored", "lost"]
    poisoned_pages: int
    vmemmap: VmemmapDelta
    injected_fault: bool


class FieldError(TypedDict):
    """One thing wrong with a request."""

    field: str
    message: str


class NodeDelta(TypedDict):
    """What a resize did on one node.

    Attributes:
        refused: Those that could not be freed, and are surplus now.
    """

    node: int
    allocated: int
    freed: int
    refused: int


class NodeReason(TypedDict):
    """Why a node has fewer, or more, than was asked for."""

    node: int
    reason: Reason


class Shortfall(TypedDict):
    """How many pages are missing, or too many, and why.

    Attributes:
        reason: The one that says most of those of the nodes.
        summary: Why, in sentences with numbers.
        remedies: What would help.
    """

    missing: int
    reason: Reason | None
    nodes: list[NodeReason]
    summary: str
    remedies: list[Remedy]


class Resize(TypedDict):
    """What a resize did.

    Attributes:
        before: The pool before it.
        after: The pool after it.
        refused: Those that could not be freed, and are surplus now.
        converted_surplus: Surplus pages that became persistent ones, or the other way.
        nodes: Those on which something was done.
        full_nodes: Those that were asked for a page in vain.
        shortfall: Null: the pool has the size that was asked for.
        injected_fault: An armed fault point refused a request of it.
        reclaimed_pages: Pages of 4 KiB that were given up for it: page cache, and memory that went to swap.
        compacted_blocks: Pageblocks of 2 MiB that compaction emptied for it.
    """

    requested: int
    before: Counters
    after: Counters
    allocated: int
    freed: int
    refused: int
    converted_surplus: int
    vmemmap: VmemmapDelta
    nodes: list[NodeDelta]
    full_nodes: list[int]
    shortfall: Shortfall | None
    injected_fault: bool
    reclaimed_pages: int
    compacted_blocks: int


class Unplugged(TypedDict):
    """What unplugging a part of a memory block did.

    Attributes:
        migrated_pages: Single pages that moved.
        migrated_hugepages: Huge pages in use that moved.
        replaced_hugepages: Free huge pages that others took the place of.
        refused_hugepages: Free huge pages whose vmemmap could not be restored: each has made the pool grow
            by one.
        before: The pool of 2 MiB pages before it.
        after: The pool of 2 MiB pages after it.
        busy_sub_blocks: Those that could not be emptied.
        sub_block_pages: How large they are.
        injected_fault: An armed fault point refused a request of it.
    """

    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta
    block: int
    requested_pages: int
    unplugged_pages: int
    busy_sub_blocks: int
    sub_block_pages: int
    injected_fault: bool


class EjectedMemory(TypedDict):
    """What became of memory that was asked to leave.

    Attributes:
        gone: It left; else all that went offline for it is online again.
        refused: The memory blocks that stayed online, with the errno.
    """

    blocks: list[int]
    gone: bool
    refused: dict[str, str]
    vmemmap: VmemmapDelta


class Moved(TypedDict):
    """What had to move for a range; kept also when the range is refused.

    Attributes:
        migrated_pages: Single pages that moved.
        migrated_hugepages: Huge pages in use that moved.
        replaced_hugepages: Free huge pages that others took the place of.
        refused_hugepages: Free huge pages whose vmemmap could not be restored: each has made the pool grow
            by one.
        before: The pool of 2 MiB pages before it.
        after: The pool of 2 MiB pages after it.
        injected_fault: An armed fault point refused a request of it.
    """

    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta
    injected_fault: bool


class TaskPolicy(TypedDict):
    """A memory policy.

    Attributes:
        mode: `default`, `bind`, `interleave`, `preferred` or `local`.
        nodes: The nodes that it names.
    """

    mode: str
    nodes: list[int]


class Mapping(TypedDict):
    """One mapping of huge pages, counted in huge pages.

    Attributes:
        map: Its number within the task.
        size: The huge page size, as sysfs writes it.
        count: Its length.
        touched: Pages that were faulted in; of a shared mapping, those of the file in its range.
        reserved: Pages that are still promised to it, or to the file in its range.
        shared: Its pages are the file's.
        noreserve: Nothing was promised to it.
        file: Path of the file behind it; null: there is none, or it has no name.
        offset: Its first page in the file.
    """

    map: int
    size: str
    count: int
    touched: int
    reserved: int
    shared: bool
    noreserve: bool
    file: str | None
    offset: int


class KilledTask(TypedDict):
    """A task that the OOM killer ended.

    Attributes:
        pages: Its single pages of 4 KiB, those in swap included.
    """

    pid: int
    comm: str
    pages: int


class StartedTask(TypedDict):
    """A process just started, and what it could touch.  What has nothing to do with its kind is null.

    Attributes:
        pid: Its number.
        kind: What it was started for, such as `hugetlb`, `anon` or `kernel`; `cache` is page cache, and no
            process.
        comm: Its name on the console.
        parent: The task that it was forked from.
        cgroup: The one that it is in; empty: the root.
        cpu: The CPU that it runs on.
        node: The node that its memory comes from; null: that of its CPU, as far as its policy has it.
        mlock: Its memory is locked.
        pages: Its single pages of 4 KiB.
        memory_bytes: The same in bytes.
        swapped_pages: Those that were moved out to swap besides.
        maps: Its mappings of huge pages, the oldest first.
        map: The number of its mapping.
        touched: Huge pages that were faulted in.
        signal: What stopped the touching; SIGKILL: the OOM killer ended the process as it began.
        reason: Why.
        facts: What the reason is about, such as the cgroup and its limit.
        injected_fault: An armed fault point refused a request of it.
        reclaimed_pages: Pages of 4 KiB that were given up for it: page cache, and memory that went to swap.
        compacted_blocks: Pageblocks of 2 MiB that compaction emptied for it.
        oom: Tasks that the OOM killer ended for it, in order.
    """

    pid: int
    kind: str
    comm: str
    parent: int | None
    cgroup: str
    policy: TaskPolicy
    cpu: int
    node: int | None
    mlock: bool
    pages: int
    memory_bytes: int
    swapped_pages: int
    maps: list[Mapping]
    map: int | None
    touched: int | None
    signal: Literal["SIGBUS", "SIGKILL"] | None
    reason: Reason | None
    facts: dict[str, Any]
    vmemmap: VmemmapDelta | None
    injected_fault: bool
    reclaimed_pages: int
    compacted_blocks: int
    oom: list[KilledTask]


class Touched(TypedDict):
    """What touching a mapping of huge pages did.

    Attributes:
        touched: Huge pages that were faulted in, or were there.
        signal: What stopped it.
        reason: Why.
        facts: What the reason is about, such as the cgroup and its limit.
        injected_fault: An armed fault point refused a request of it.
        reclaimed_pages: Pages of 4 KiB that were given up for it: page cache, and memory that went to swap.
        compacted_blocks: Pageblocks of 2 MiB that compaction emptied for it.
    """

    pid: int
    map: int
    touched: int
    signal: Literal["SIGBUS"] | None
    reason: Reason | None
    facts: dict[str, Any]
    vmemmap: VmemmapDelta
    injected_fault: bool
    reclaimed_pages: int
    compacted_blocks: int


class Kept(TypedDict):
    """What is left of a refused command that has undone the rest.

    Attributes:
        vmemmap: Pages that were made for a moment leave their boot frames in MemTotal.
    """

    vmemmap: VmemmapDelta


class Problem(TypedDict):
    """A refusal, as RFC 9457 writes it.  There may be more facts than these.

    Attributes:
        detail: What happened, with the numbers of this case.
        type: With a reason, where it is explained; else the errno as a name.
        instance: The address asked, without its query.
        reason: Why, in one word of a fixed list.
        summary: Why, in sentences with numbers.
        remedies: What would help.
        errors: Of a malformed request: each field.
        result: What was done before the refusal, and is kept.
    """

    detail: str
    type: str
    title: str
    status: int
    instance: str
    errno: str
    errno_number: int
    reason: NotRequired[str | None]
    node: NotRequired[int | None]
    zone: NotRequired[str | None]
    pfn: NotRequired[int | str | None]
    pages_needed: NotRequired[int | None]
    pages_available: NotRequired[int | None]
    summary: NotRequired[str | None]
    remedies: NotRequired[list[Remedy] | None]
    errors: NotRequired[list[FieldError] | None]
    result: NotRequired[Resize | Demotion | BlockChange | Unplugged | EjectedMemory | Moved | Poisoned | StartedTask | Touched | ChangedFile | Kept | None]


class DatabaseHealth(TypedDict):
    """The database takes a write.

    Attributes:
        error: Why it does not.
    """

    ok: bool
    error: str | None


class MigrationsHealth(TypedDict):
    """The database has the tables that this version of the service wants.

    Attributes:
        head: The newest migration that the service knows.
        current: The one of the database; null when that cannot be read.
    """

    ok: bool
    head: str | None
    current: str | None


class FailingHost(TypedDict):
    """A host whose last drain of deferred frees failed.

    Attributes:
        failures: How often in a row.
    """

    name: str
    failures: int
    last_error: str | None


class WorkerHealth(TypedDict):
    """The worker for deferred frees gave a sign of life lately and can work, or is switched off.

    Attributes:
        failures: The hosts it fails on, which does not make it unfit.
        error: Why it cannot work.
    """

    ok: bool
    enabled: bool
    failures: list[FailingHost]
    error: str | None


class Parts(TypedDict):
    """What a service works with."""

    database: DatabaseHealth
    migrations: MigrationsHealth
    worker: WorkerHealth


class Ready(TypedDict):
    """Every part is fit to work."""

    parts: Parts
    status: Literal["ok"]


class RemovedCgroup(TypedDict):
    """A cgroup that is gone."""

    path: str


class RemovedDevice(TypedDict):
    """A device that is gone."""

    id: str


class RemovedMemory(TypedDict):
    """A memory block that was unplugged, and what became of its vmemmap.

    Attributes:
        vmemmap_pages_lost: Those that the kernel loses (5.14).
    """

    block: int
    vmemmap_pages_freed: int
    vmemmap_pages_lost: int
    page_table_pages_freed: int


class PteRun(TypedDict):
    """Entries of a page table that follow each other, and so do their frames.

    Attributes:
        first_page: The first entry, 0..511.
        nr_pages: How many entries.
        pfn: The frame of the first entry.
        step: By how much the frame of each next entry is further; 0: all share one.
    """

    first_page: int
    nr_pages: int
    pfn: int
    step: Literal[0, 1]
    writable: bool


class Section(TypedDict):
    """A section with its page table.

    Attributes:
        section: Its number.
        mapping: How its vmemmap is mapped: `pmd` whole, `pte` by a page table.
        optimized_hugepages: Huge pages in it whose vmemmap is given back.
        pages_freed: Entries of the page table that share a frame with another.
        block: The memory block that it belongs to.
        page_table_pfn: Where the page table lies; null: there is none.
        runs: Entries in order, all 512 of them.
    """

    section: int
    mapping: Literal["pmd", "pte"]
    optimized_hugepages: int
    pages_freed: int
    node: int
    block: int
    page_table_pfn: int | None
    runs: list[PteRun]


class Snapshot(TypedDict):
    """A machine as it was, which its host can be reset to.

    Attributes:
        revision: The revision of the host whose state it is.
        taken_at: RFC 3339, in UTC.
        stored_bytes: What it takes in the database.
    """

    name: str
    revision: int
    taken_at: str
    stored_bytes: int


class SnapshotList(TypedDict):
    """All snapshots of a host, by name."""

    items: list[Snapshot]


class StateRow(TypedDict):
    """A state: what it is, the machine that it is shown on, and the steps that make it.

    Attributes:
        spec: As the body of a new host has it.
        steps: As a what-if question has them.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    steps: list[dict[str, Any]]


class StateList(TypedDict):
    """All states, by name."""

    items: list[StateRow]


class StepOutcome(TypedDict):
    """How a step of a variant ended."""

    errno: str | None
    reason: str | None
    signal: str | None


class FailedInStep(TypedDict):
    """What was expected of a step of a variant and is not so."""

    path: str
    expected: Any
    actual: Any
    message: str
    step: int


class VariantRow(TypedDict):
    """What came of a variant.

    Attributes:
        counters: After the last step.
        columns: What `variants.columns` asked for, by path.
        missing_columns: Of these, what this variant does not have, and why.
        error: Why the host could not be made: errno, detail, reason, facts.
    """

    variant: int
    values: dict[str, Any]
    ok: bool
    refused: int
    steps: list[StepOutcome]
    failed_expectations: list[FailedInStep]
    counters: dict[str, Any] | None
    columns: dict[str, Any]
    missing_columns: dict[str, str]
    error: dict[str, Any] | None


class Table(TypedDict):
    """The answer to a question with variants.

    Attributes:
        ok: Every expectation of every variant holds.
    """

    ok: bool
    variants: list[VariantRow]


class Task(TypedDict):
    """A process.

    Attributes:
        pid: Its number.
        kind: What it was started for, such as `hugetlb`, `anon` or `kernel`; `cache` is page cache, and no
            process.
        comm: Its name on the console.
        parent: The task that it was forked from.
        cgroup: The one that it is in; empty: the root.
        cpu: The CPU that it runs on.
        node: The node that its memory comes from; null: that of its CPU, as far as its policy has it.
        mlock: Its memory is locked.
        pages: Its single pages of 4 KiB.
        memory_bytes: The same in bytes.
        swapped_pages: Those that were moved out to swap besides.
        maps: Its mappings of huge pages, the oldest first.
    """

    pid: int
    kind: str
    comm: str
    parent: int | None
    cgroup: str
    policy: TaskPolicy
    cpu: int
    node: int | None
    mlock: bool
    pages: int
    memory_bytes: int
    swapped_pages: int
    maps: list[Mapping]


class TaskPage(TypedDict):
    """A part of a list.

    Attributes:
        next_cursor: For `cursor` of the next request; null: there are no more.
    """

    items: list[Task]
    next_cursor: str | None


class UnlinkedFile(TypedDict):
    """A file or a SysV segment that has no name any more.

    Attributes:
        freed: Huge pages of it that nobody has any more.
        mapped: A task maps it still, and it keeps its pages until then.
        queued: Huge pages that wait for the worker that frees them.
        injected_fault: An armed fault point refused a request of it.
    """

    path: str
    freed: int
    mapped: bool
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool


class UnmappedPages(TypedDict):
    """What munmap or madvise did, in huge pages.

    Attributes:
        freed: Those that nobody has any more.
        queued: Those that wait for the worker that frees them.
        injected_fault: An armed fault point refused a request of it.
    """

    pid: int
    map: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool


class Unmounted(TypedDict):
    """A mount that is gone, and what became of its files.

    Attributes:
        files: How many it had.
        freed: Huge pages of theirs that nobody has any more.
        queued: Huge pages that wait for the worker that frees them.
        injected_fault: An armed fault point refused a request of it.
    """

    path: str
    files: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool


class Version(TypedDict):
    """What this service is.

    Attributes:
        kernels: The versions whose rules it knows.
    """

    name: str
    version: str
    kernels: list[str]


class RetryTimer(TypedDict):
    """The driver's timer.

    Attributes:
        due: Seconds after the last run until it tries again; null when it has nothing left to try.
        attempt: How often it has fired since the requested size was last reached.
    """

    due: int | None
    attempt: int


class VirtioMemDevice(TypedDict):
    """A virtio-mem device.

    Attributes:
        node: Where its memory goes.
        start_pfn: The first page of its region.
        max_bytes: The size of its region.
        block_size_bytes: The device's own blocks.
        mode: The driver works with parts of memory blocks (`sub-block`), or with whole ones (`big-block`).
        unit_bytes: How much the driver plugs or unplugs at once.
        requested_bytes: What the hypervisor wants the machine to have of it.
        plugged_bytes: What the machine has of it.
        blocks: Numbers of its memory blocks.
    """

    id: str
    node: int
    start_pfn: int
    max_bytes: int
    block_size_bytes: int
    mode: Literal["sub-block", "big-block"]
    unit_bytes: int
    requested_bytes: int
    plugged_bytes: int
    blocks: list[int]
    retry: RetryTimer


class VirtioMemList(TypedDict):
    """All virtio-mem devices of a host, by name."""

    items: list[VirtioMemDevice]


class VirtioMemStep(TypedDict):
    """What the driver did with one memory block.

    Attributes:
        bytes: How much of the block; 0 when none of it could be had.
        errno: Why not more of it: `EBUSY` some of it is in use, `ENOMEM` no memory for what would have to
            move.
    """

    block: int
    action: Literal["plug", "unplug", "offline", "remove"]
    bytes: int
    errno: str | None


class VirtioMemRun(TypedDict):
    """What one run of the virtio-mem driver did, and what had to move for it.

    Attributes:
        migrated_pages: Single pages that moved.
        migrated_hugepages: Huge pages in use that moved.
        replaced_hugepages: Free huge pages that others took the place of.
        refused_hugepages: Free huge pages whose vmemmap could not be restored: each has made the pool grow
            by one.
        before: The pool of 2 MiB pages before it.
        after: The pool of 2 MiB pages after it.
        steps: What it did, in order.
        errno: Why it ended before the requested size: `EBUSY`, `ENOMEM`, or `ENOSPC`: the region is full,
            or too much of its memory waits to go online.
        reason: The last thing that was in the way.
        injected_fault: An armed fault point refused a request of it.
    """

    migrated_pages: int
    migrated_hugepages: int
    replaced_hugepages: int
    refused_hugepages: int
    before: Counters
    after: Counters
    vmemmap: VmemmapDelta
    id: str
    requested_bytes: int
    plugged_bytes: int
    steps: list[VirtioMemStep]
    retry: RetryTimer
    errno: str | None
    reason: str | None
    injected_fault: bool


class SectionRow(TypedDict):
    """One section of 128 MiB.

    Attributes:
        section: Its number.
        mapping: How its vmemmap is mapped: `pmd` whole, `pte` by a page table.
        optimized_hugepages: Huge pages in it whose vmemmap is given back.
        pages_freed: Entries of the page table that share a frame with another.
    """

    section: int
    mapping: Literal["pmd", "pte"]
    optimized_hugepages: int
    pages_freed: int


class Vmemmap(TypedDict):
    """Totals, and a page of sections.

    Attributes:
        sections: Those of 128 MiB that have a vmemmap.
        sections_split: Those of them that are mapped by a page table.
        page_table_pages: What these page tables take.
        pages_freed: What huge pages give back; frames that got lost on the way (5.14, hot-added memory) are
            not.
        bytes_saved: What is freed less the page tables that it took, and less the lost frames.
        next_cursor: For `cursor` of the next request; null: there are no more.
    """

    sections: int
    sections_split: int
    page_table_pages: int
    pages_freed: int
    bytes_saved: int
    items: list[SectionRow]
    next_cursor: str | None


class WorkerMode(TypedDict):
    """Who works off the queue of deferred frees.

    Attributes:
        mode: `auto` the service's worker soon after, `manual` only a drain or a resize.
    """

    mode: Literal["auto", "manual"]
