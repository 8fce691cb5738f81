"""Which node a recorded process ran on: recordings do not say, but the memory of that node fell.

Taken from a recording as an input, on guests of several nodes.
"""

from typing import Any

from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.units import ORDER_2M, PAGEBLOCK_PAGES, order_of
from hugepool.replay.trace import Step, Trace


def find_nodes(trace: Trace) -> dict[int, int]:
    """The node that each process began on, by the number of the step that started it."""
    found: dict[int, int] = {}
    waiting: list[Step] = []
    before = trace.boot
    kept = PAGEBLOCK_PAGES
    if trace.vmemmap_freeing:
        kept -= profile_of(trace.kernel).freeable_vmemmap_pages(ORDER_2M)
    for step in trace.steps:
        if step.do == "start":
            waiting.append(step)
        if step.after is None:
            continue
        if waiting and before is not None and len(before.get("node_hugepages", ())) > 1:
            nid = _fell_most(before, step.after, kept)
            found |= {start.index: nid for start in waiting}
        before, waiting = step.after, []
    return found


def _fell_most(before: dict[str, Any], after: dict[str, Any], kept: int) -> int:
    """The node that lost most memory to processes; what its pool took is no loss."""
    lost = {nid: _held(before, nid, kept) - _held(after, nid, kept) for nid in after["node_hugepages"]}
    return int(max(sorted(lost), key=lambda nid: lost[nid]))


def _held(counters: dict[str, Any], nid: str, kept: int) -> int:
    """Free pages of a node, and what its huge pages took: ``kept`` pages for each 2 MiB."""
    zones = [zone for name, zone in counters["zones"].items() if name.split("/")[0] == nid]
    pools = counters["node_hugepages"].get(nid, {})
    blocks = sum(files["nr_hugepages"] << (order_of(size) or 0) - ORDER_2M for size, files in pools.items())
    return int(sum(zone["free"] + zone["pcp"] for zone in zones) + blocks * kept)
