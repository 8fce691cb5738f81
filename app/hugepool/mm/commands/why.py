"""Why something fell short or was refused, as sentences with numbers, and what would help.

A remedy's ``steps`` are scenario steps: a scenario, or ``POST /v1/what-if``, can run them as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hugepool.mm.commands import commands as c
from hugepool.mm.machine.errors import MMError, Remedy, Step, Why
from hugepool.mm.machine.mappings import HugeMap
from hugepool.mm.machine.pool_outcomes import NodeReason
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host, HState, Task
from hugepool.mm.machine.units import PAGE_SIZE

MOST_TASKS = 3  # tasks that a remedy names
OOM_RISK = (
    " On this kernel a growth to the last page can wake the OOM killer: it takes all huge pages first, and page "
    "tables for their vmemmap last."
)


@dataclass(frozen=True, slots=True)
class _Case:
    """What a remedy can look at: the host as it is now, the pool in question, what was asked, where it failed."""

    host: Host
    hs: HState
    asked: int | None
    nid: int | None
    failed_on: int | None = None
    pages_needed: int | None = None
    command: c.Command[Any] | None = None
    newest_pid: int | None = None

    @property
    def tasks(self) -> list[Task]:
        """Tasks that were there before the command."""
        known = self.host.next_pid if self.newest_pid is None else self.newest_pid
        return [task for pid, task in self.host.tasks.items() if pid <= known]

    @property
    def have(self) -> int:
        """Pages of the pool, or of its part on the node in question."""
        return self.hs.nr_huge_pages if self.nid is None else self.hs.nr_node[self.nid]

    @property
    def missing(self) -> int:
        """Pages that a mapping lacks."""
        unpromised = max(0, self.hs.free_huge_pages - self.hs.resv_huge_pages)
        return max(1, getattr(self.command, "count", 1) - unpromised)


# -- pools -------------------------------------------------------------------------------------------------


def of_pool(host: Host, hs: HState, asked: int, nid: int | None, nodes: Sequence[NodeReason]) -> Why:
    """Why a pool has another size than was asked for; ``nodes``: those that say no."""
    have = hs.nr_huge_pages if nid is None else hs.nr_node[nid]
    where = "" if nid is None else f" on node {nid}"
    off = f"{asked - have} are missing" if have < asked else f"{have - asked} are left over"
    first = f"{_pages(asked, hs)} were asked for{where}, and there are {have}: {off}."
    reasons = [row.reason for row in nodes]
    case = _Case(host, hs, asked, nid)
    risk = OOM_RISK if have < asked and _wants_tables_last(host, hs, reasons) else ""
    return Why(f"{first} {_by_node(nodes)}{risk}", _remedies(case, reasons))


def _wants_tables_last(host: Host, hs: HState, reasons: Sequence[Reason]) -> bool:
    """Whether a growth took all memory there was for huge pages before it wanted page tables for their vmemmap.

    Source: mm/hugetlb_vmemmap.c hugetlb_vmemmap_optimize_folios() (6.12).
    """
    exhausted = {Reason.WATERMARK, Reason.NO_CONTIGUOUS_MEMORY}.intersection(reasons)
    return bool(exhausted) and host.profile.bulk and host.optimize_enabled and not hs.gigantic


def _by_node(nodes: Sequence[NodeReason]) -> str:
    """``Node 0: …``; one sentence where all nodes have the same reason."""
    by_reason: dict[Reason, list[int]] = {}
    for row in nodes:
        by_reason.setdefault(row.reason, []).append(row.node)
    if len(by_reason) == 1:
        return next(iter(by_reason)).meaning
    return " ".join(f"{_node_words(nids)}: {reason.meaning}" for reason, nids in by_reason.items())


def _node_words(nids: Sequence[int]) -> str:
    return f"Node{'s' if len(nids) > 1 else ''} {', '.join(map(str, nids))}"


def _pages(count: int, hs: HState) -> str:
    return f"{count} huge pages of {hs.size}" if count != 1 else f"1 huge page of {hs.size}"


def present(host: Host, hs: HState, nid: int | None = None) -> tuple[str, dict[str, Any], list[Remedy]]:
    """How a pool is now: sentences, the facts behind them, and what would help where something is stuck."""
    nr = hs.nr_huge_pages if nid is None else hs.nr_node[nid]
    free = hs.free_huge_pages if nid is None else hs.free_node[nid]
    surplus = hs.surplus_huge_pages if nid is None else hs.surplus_node[nid]
    facts: dict[str, Any] = {
        "nr_hugepages": nr, "free_hugepages": free, "in_use_hugepages": nr - free,
        "resv_hugepages": hs.resv_huge_pages, "surplus_hugepages": surplus, "max_huge_pages": hs.max_huge_pages,
    }  # fmt: skip
    if nr == 0:
        return f"The pool of {hs.size} pages is empty.", facts, []
    text = [f"The pool has {_pages(nr, hs)}: {free} free, {nr - free} in use."]
    if hs.resv_huge_pages:
        text.append(f"{hs.resv_huge_pages} of the free ones are promised to mappings.")
    case = _Case(host, hs, hs.max_huge_pages, nid)
    wanted = [] if surplus <= 0 else _surplus_reasons(hs, surplus)
    if wanted:
        text.append(f"{surplus} are surplus: above the {hs.max_huge_pages} that were asked for.")
        text += [reason.meaning for reason in wanted]
    queued = sum(each.order == hs.order for each in host.deferred)
    if queued:
        facts["queued"] = queued
        text.append(f"{queued} wait for the worker that frees them.")
    armed = [point for point, fault in host.faults.items() if fault.armed]
    if armed:
        facts["faults_armed"] = armed
        text.append(f"A fault is armed at {', '.join(armed)}.")
    return " ".join(text), facts, _remedies(case, wanted)


def _surplus_reasons(hs: HState, surplus: int) -> list[Reason]:
    """Surplus within what overcommit allows, or in use, is nothing to mend."""
    if hs.free_huge_pages <= hs.resv_huge_pages:
        return [Reason.IN_USE]
    return [Reason.SURPLUS_NOT_RETRIED] if surplus > hs.nr_overcommit_huge_pages else []


# -- refusals ----------------------------------------------------------------------------------------------


def of_refusal(host: Host, command: c.Command[Any], error: MMError, newest_pid: int) -> Why | None:
    """Why a command was refused; None for input that is wrong by itself.

    ``newest_pid``: tasks above it were begun by the command itself, and are gone when it is refused.
    """
    if error.reason is None:
        return None
    order = getattr(command, "order", min(host.hstates))
    if order not in host.hstates:
        return None
    case = _Case(
        host,
        host.hstates[order],
        command.count if isinstance(command, c.SetMaxHugePages) else None,
        getattr(command, "nid", None),
        error.facts.get("node"),
        error.facts.get("pages_needed"),
        command,
        newest_pid,
    )
    detail = error.detail[:1].upper() + error.detail[1:].rstrip(".")
    return Why(f"{detail}. {error.reason.meaning}", _remedies(case, [error.reason]))


# -- what would help ---------------------------------------------------------------------------------------

Help = Callable[[_Case], Remedy | None]


def _remedies(case: _Case, reasons: Sequence[Reason]) -> list[Remedy]:
    found: list[Remedy] = []
    for reason in dict.fromkeys(reasons):
        for helps in HELP.get(reason, ()):
            remedy = helps(case)
            if remedy is not None and remedy not in found:
                found.append(remedy)
    return found


def _resize(case: _Case, count: int) -> Step:
    where = {} if case.nid is None else {"node": case.nid}
    return {"resize": {"size": case.hs.size, "count": count, **where}}


def _retry(case: _Case) -> list[Step]:
    """Make what is surplus part of the target, then ask for the smaller pool again."""
    return [_resize(case, case.have), _resize(case, case.asked or 0)]


def _raise_then_shrink(case: _Case) -> Remedy:
    now = case.hs.nr_huge_pages if case.nid is None else case.hs.nr_node[case.nid]
    return Remedy(
        f"Raise the target to {now}, which makes the surplus part of the pool; then shrink again.",
        _retry(case),
    )


def _free_for_restore(case: _Case) -> Remedy:
    node = "" if case.failed_on is None else f" on node {case.failed_on}"
    least = (case.pages_needed or 0) * PAGE_SIZE >> 10
    need = f" (at least {least} KiB above the watermark)" if least else ""
    text = f"Free memory of the kernel zones{node}{need}, then raise the target and shrink again."
    steps = [*_end_largest(case), *_retry(case)] if isinstance(case.command, c.SetMaxHugePages) else []
    return Remedy(text, steps)


def _end_largest(case: _Case) -> list[Step]:
    """End the task that has most memory of its own."""
    sizes = {task.pid: sum(count for _, count in task.runs) for task in case.tasks}
    largest = max(sizes, key=lambda pid: sizes[pid], default=None)
    return [] if largest is None or not sizes[largest] else [{"exit": largest}]


def _disarm(case: _Case) -> Remedy:
    points = [point for point, fault in case.host.faults.items() if fault.armed]
    steps: list[Step] = [{"clear_fault": point} for point in points]
    if case.asked is not None and case.hs.surplus_huge_pages:
        steps += _retry(case)
    return Remedy(f"Disarm the fault at {', '.join(points) or 'the point'}, then try again.", steps)


def _end_users(case: _Case) -> Remedy | None:
    users = {
        task.pid: sum(_held(m) for m in task.maps.values() if m.order == case.hs.order) for task in case.tasks
    }
    pids = sorted((pid for pid in users if users[pid]), key=lambda pid: -users[pid])[:MOST_TASKS]
    if not pids:
        return Remedy("Remove the hugetlbfs files, or end the applications, that have the pages.")
    named = ", ".join(f"{pid} ({users[pid]} pages)" for pid in pids)
    return Remedy(
        f"End or shrink the tasks that have most of them: {named}.", [{"exit": pid} for pid in pids]
    )


def _held(mapping: HugeMap) -> int:
    """Huge pages that a mapping has or was promised; those of a file may be other tasks' too."""
    return mapping.count if mapping.file_id is not None else len(mapping.pages) + mapping.promised


def _other_nodes(case: _Case) -> Remedy | None:
    if case.nid is None or case.asked is None:
        return Remedy("Ask for all nodes, without a memory policy.")
    steps: list[Step] = [{"resize": {"size": case.hs.size, "count": case.asked}}]
    return Remedy("Ask for the pool of the whole host instead of one node.", steps)


def _ask_for_less(case: _Case) -> Remedy | None:
    if case.asked is None or case.have >= case.asked:
        return None
    return Remedy(f"Ask for the {case.have} pages that fit.", [_resize(case, case.have)])


def _end_for_memory(case: _Case) -> Remedy | None:
    steps = _end_largest(case)
    if not steps:
        return None
    text = f"End task {steps[0]['exit']}, which has most memory, and ask again."
    return Remedy(text, steps if case.asked is None else [*steps, _resize(case, case.asked)])


def _at_boot(case: _Case) -> Remedy:
    word = {9: "2M"}.get(case.hs.order, "1G")
    count = case.asked or 1
    return Remedy(f"Reserve them at boot, while memory is in one piece: hugepagesz={word} hugepages={count}.")


def _grow_pool(case: _Case) -> Remedy:
    steps = [{"resize": {"size": case.hs.size, "count": case.hs.nr_huge_pages + case.missing}}]
    return Remedy(f"Grow the pool by what is missing: {_pages(case.missing, case.hs)}.", steps)


def _allow_surplus(case: _Case) -> Remedy | None:
    if case.hs.gigantic:
        return None
    step = {"overcommit": {"size": case.hs.size, "count": case.hs.surplus_huge_pages + case.missing}}
    return Remedy(f"Allow {_pages(case.missing, case.hs)} as surplus on demand.", [step])


def _grow_by_one(case: _Case) -> Remedy:
    text = "Add free pages to the pool, so that some are promised to nobody."
    return Remedy(text, [_resize(case, case.hs.nr_huge_pages + 1)])


def _drain(_case: _Case) -> Remedy:
    return Remedy("Let the worker free what waits, then try again.", [{"drain": {}}])


def _take_offline(case: _Case) -> Remedy | None:
    block = getattr(case.command, "block", None)
    return None if block is None else Remedy(f"Take memory block {block} offline.", [{"offline": block}])


def _words(text: str) -> Help:
    return lambda _case: Remedy(text)


HELP: dict[Reason, tuple[Help, ...]] = {
    Reason.VMEMMAP_RESTORE: (_free_for_restore,),
    Reason.INJECTED_FAULT: (_disarm,),
    Reason.WATERMARK: (_end_for_memory, _ask_for_less),
    Reason.OOM: (_end_for_memory,),
    Reason.NO_CONTIGUOUS_MEMORY: (_at_boot, _ask_for_less),
    Reason.IN_USE: (_end_users,),
    Reason.RESERVED: (_end_users,),
    Reason.SURPLUS_NOT_RETRIED: (_raise_then_shrink,),
    Reason.OTHER_NODE: (_other_nodes,),
    Reason.POOL_EXHAUSTED: (_grow_pool, _allow_surplus),
    Reason.ALL_FREE_PAGES_RESERVED: (_grow_by_one, _end_users),
    Reason.IN_FLIGHT: (_drain,),
    Reason.BLOCK_ONLINE: (_take_offline,),
    Reason.UNMOVABLE_PAGE: (
        _words("Choose another memory block or range; the `blockers` of a block name what is in the way."),
    ),
    Reason.MIGRATION_TARGET: (
        _words("Free memory, or grow the pool, so that what has to move finds a place."),
    ),
    Reason.LIVELOCK: (
        _words("Free memory on the node, or end what uses the block, before it goes offline."),
    ),
    Reason.MULTIZONE_RANGE: (_words("Choose a range or a memory block that lies in one zone."),),
    Reason.MEMORY_HOLES: (_words("Choose another memory block: this one can never go offline."),),
    Reason.GIGANTIC_PAGE: (_words("Give the page of 1 GiB back, or split it with demote, first."),),
    Reason.VMEMMAP_POPULATE: (_words("Free memory on the node before memory is added."),),
    Reason.MEMORY_PRESENT: (_words("Leave out start_pfn, and the memory is put behind what there is."),),
    Reason.CGROUP_LIMIT: (
        _words("Raise the limit of the cgroup, or use fewer huge pages; the pool may well have free ones."),
    ),
    Reason.CGROUP_IN_USE: (_words("End what uses the pages, or set a limit that covers them."),),
    Reason.CGROUP_POPULATED: (_words("Move the tasks out and remove the cgroups below first."),),
    Reason.MOUNT_FULL: (_words("Remove files of the mount, or mount it with a larger size=."),),
    Reason.MOUNT_BUSY: (_words("End the tasks that map files of the mount, or remove the files."),),
    Reason.QUOTA: (_words("Delete what nobody needs, or raise the limit."),),
}
