"""Whether a virtual machine finds its huge pages, now and when all reservations are in use; else what must change."""

from typing import Any

from app.forms.plans import PlacementBody
from app.mm.commands import CreateTask, SetMaxHugePages, TouchHugePages
from app.mm.errors import BadInput
from app.mm.hugetlb import check_size
from app.mm.state import Host, HState
from app.mm.units import PAGE_SIZE, order_of
from app.whatif.plans.search import Trial, attempt
from app.whatif.run import Told


def placement(host: Host, body: PlacementBody, told: Told) -> dict[str, Any]:
    """The machine is started on copies: mmap, and every page touched."""
    hs = check_size(host, order_of(body.size), body.size)
    count = -(-body.memory // (hs.pages * PAGE_SIZE))
    if count == 0:
        raise BadInput("must be more than nothing", where="memory")
    nodes = tuple(sorted(set(body.nodes or host.memory_nodes())))
    start = CreateTask("hugetlb", "vm", hs.order, count, count, policy_mode="bind", policy_nodes=nodes)
    now = attempt(host, start)
    touched = _all_touched(host)
    later = attempt(touched, start)
    told(1, 2)
    change = None if _fits(now) and _fits(later) else _change(touched, hs, start)
    told(2, 2)
    return {
        "size": body.size,
        "count": count,
        "nodes": [
            {
                "node": nid,
                "free_hugepages": hs.free_node[nid],
                "free_when_touched": touched.hstates[hs.order].free_node[nid],
            }
            for nid in nodes
        ],
        "now": _outcome(now),
        "when_touched": _outcome(later),
        "change": change,
    }


def _fits(trial: Trial) -> bool:
    return trial.error is None and trial.result["signal"] is None


def _outcome(trial: Trial) -> dict[str, Any]:
    error = trial.error
    return {
        "fits": _fits(trial),
        "errno": error and error.errno,
        "reason": trial.reason,
        "signal": trial.result.get("signal"),
        "touched": trial.result.get("touched", 0),
    }


def _all_touched(host: Host) -> Host:
    """The host when every program has touched all it has mapped."""
    commands = [
        TouchHugePages(task.pid, mapping.map_id, mapping.count - len(mapping.pages))
        for task in host.tasks.values()
        for mapping in task.maps.values()
        if len(mapping.pages) < mapping.count
    ]
    for command in commands:  # one after the other: a program that gets SIGBUS does not stop the next
        host = attempt(host, command).host
    return host


def _change(host: Host, hs: HState, start: CreateTask) -> dict[str, Any]:
    """The least growth of the pool on the machine's nodes with which it starts, tried; or what stops that."""
    count, nodes = start.count, start.policy_nodes
    now = host.hstates[hs.order]
    missing = max(count - sum(now.free_node[nid] for nid in nodes), 0)
    unreserved = now.free_huge_pages - now.resv_huge_pages
    missing = max(missing, count - unreserved)
    grown, steps, reason = host, [], None
    for nid in nodes:
        if missing <= 0:
            break
        before = grown.hstates[hs.order].nr_node[nid]
        trial = attempt(grown, SetMaxHugePages(hs.order, before + missing, nid))
        gained = trial.host.hstates[hs.order].nr_node[nid] - before
        reason = trial.reason or reason
        if gained > 0:
            steps.append({"node": nid, "nr_hugepages": before + gained})
            grown, missing = trial.host, missing - gained
    works = missing <= 0 and _fits(attempt(grown, start))
    return {
        "works": works,
        "write": steps,
        "missing": max(missing, 0),
        "limited_by": None if works else reason,
    }
