"""Why a pool is as it is, and what a write of another size would come to."""

from dataclasses import asdict, dataclass
from typing import Any

from hugepool.mm.commands import why
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import SetMaxHugePages
from hugepool.mm.kernel.hugetlb import check_size
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import MMError, NotFound, Remedy
from hugepool.mm.machine.pool_outcomes import Resize
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import order_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer in sentences.

    Attributes:
        summary: what is, or would be, and why; with numbers.
        facts: the numbers behind the sentences.
        remedies: what would help where something is stuck or short; each with steps of a scenario.
    """

    summary: str
    facts: dict[str, Any]
    remedies: list[Remedy]


def explain(host: Host, size: str, count: int | None, nid: int | None) -> Explanation:
    """Why a pool is as it is; with ``count``, what a write of it would come to.  Changes nothing.

    Raises:
        NotFound: no such size or node.  BadInput: an impossible count.
    """
    hs = check_size(host, order_of(size), size[:40])
    if nid is not None and nid not in host.memory_nodes():
        raise NotFound(f"node {nid} has no memory on this host", node=nid)
    if count is not None:
        return _tried(host, hs, count, nid)
    summary, facts, remedies = why.present(host, hs, nid)
    return Explanation(summary, facts, remedies)


def _tried(host: Host, hs: HState, count: int, nid: int | None) -> Explanation:
    trial = fork(host)
    try:
        outcome = apply(trial, SetMaxHugePages(hs.order, count, nid))
    except MMError as error:
        if error.why is None:
            raise
        return Explanation(error.why.summary, error.facts, error.why.remedies)
    result = outcome.result
    facts = {"requested": count, "before": asdict(result.before), "after": asdict(result.after), "freed": result.freed,
             "allocated": result.allocated, "refused": result.refused, "vmemmap": asdict(result.vmemmap)}  # fmt: skip
    if outcome.error is not None and outcome.error.why is not None:
        return Explanation(outcome.error.why.summary, facts, outcome.error.why.remedies)
    short = result.shortfall
    if short is not None:
        return Explanation(short.summary, facts, short.remedies)
    return Explanation(_done(hs, result, nid), facts, [])


def _done(hs: HState, result: Resize, nid: int | None) -> str:
    where = "" if nid is None else f" on node {nid}"
    said = f"The pool of {hs.size} pages would have {result.after.nr_hugepages} pages"
    vmemmap = result.vmemmap
    if result.allocated:
        saved = vmemmap.pages_freed - vmemmap.page_table_pages
        more = f", and {saved} pages of 4 KiB less would describe them" if saved > 0 else ""
        return f"{said}: {result.allocated} more{where}{more}."
    if result.freed:
        restored = f"{vmemmap.pages_restored} pages would describe them again"
        return f"{said}: {result.freed} fewer{where}, and {restored}."
    return f"{said}, as it has now."


def as_text(found: Explanation) -> str:
    """The sentences as lines of text."""
    lines = [found.summary]
    lines += [f"* {remedy.text}" for remedy in found.remedies]
    return "".join(f"{line}\n" for line in lines)
