"""Every refusal that leaves traces: its problem document has them as ``result``, and they are kept and consistent."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hugepool.mm
from tests.api.conftest import NR, Api, HostApi, refused

ENGINE = Path(hugepool.mm.__file__).parent
Ask = tuple[str, str, Any]  # method, path below the host, body: JSON, or text for a file
MOVABLE = {"nodes": [{"memory": "2G"}, {"memory": "1G", "movable": True, "hotplug": True}]}
PLUGGED = {
    "nodes": [{"memory": "2G"}],
    "cmdline": "hugetlb_free_vmemmap=on memhp_default_state=online_movable",
}
GIGANTIC = "hugepages/1048576kB"
STUCK = "faults/vmemmap-restore"
STEPS_ALONE = {
    "memory_block.eject_memory"
}  # steps of scenarios that no address asks for; tests/mm has their refusals


@dataclass(frozen=True)
class Case:
    """How a refusal comes about.

    Attributes:
        made_by: the function of the engine that gives the refusal its result.
        spec: the machine.  before: makes it ready, and names the request.
        status, errno, reason: what is refused.
    """

    made_by: str
    spec: dict[str, Any]
    before: Callable[[HostApi], Ask]
    status: int
    errno: str
    reason: str


def shrink(host: HostApi) -> Ask:
    host.put(NR, {"count": 16})
    host.put(STUCK, {"times": 6})
    return "PUT", NR, {"count": 0}


def demote(host: HostApi) -> Ask:
    assert host.put(f"{GIGANTIC}/nr_hugepages", {"count": 2}).json()["after"]["nr_hugepages"] == 2
    host.put(STUCK, {"times": 1, "space": 0})
    return "POST", f"{GIGANTIC}/demote", {"count": 2}


def demote_more(host: HostApi) -> Ask:
    host.put(f"{GIGANTIC}/nr_hugepages", {"count": 2})
    host.post("tasks", {"kind": "hugetlb", "size": "1048576kB", "count": 1})
    return "POST", f"{GIGANTIC}/demote", {"count": 5}


def task(host: HostApi) -> Ask:
    host.put("hugepages/2048kB/nr_overcommit_hugepages", {"count": 100_000})
    return "POST", "tasks", {"kind": "hugetlb", "count": 10_000}


def fallocate(host: HostApi) -> Ask:
    host.put(NR, {"count": 5})
    return "POST", "files/dev/hugepages/f", {"op": "fallocate", "count": 8}


def segment(host: HostApi) -> Ask:
    host.put("hugepages/2048kB/nr_overcommit_hugepages", {"count": 100})
    host.put("cgroups/a", {"hugetlb": {"2048kB": {"rsvd_max": 10}}})
    pid = host.post("tasks", {"kind": "hugetlb", "count": 1, "cgroup": "a"}).json()["pid"]
    return "POST", "files/SYSV0000002a", {"op": "shmget", "count": 20, "pid": pid}


def full_of_huge_pages(host: HostApi, count: int) -> dict[str, Any]:
    """A block of node 1 that is all huge pages; of so many on the node, none can be restored."""
    host.put(NR, {"count": count, "node": 1})
    rows = host.get("memory-blocks")["items"]
    found: dict[str, Any] = next(row for row in rows if row["hugepages"]["2048kB"] == 64)
    return found


def offline(host: HostApi) -> Ask:
    return "PUT", f"memory-blocks/{full_of_huge_pages(host, 300)['block']}/state", {"state": "offline"}


def offline_file(host: HostApi) -> Ask:
    block = full_of_huge_pages(host, 300)["block"]
    return "PUT", f"fs/sys/devices/system/memory/memory{block}/state", "offline"


def take_range(host: HostApi) -> Ask:
    start = full_of_huge_pages(host, 300)["start_pfn"]
    return "POST", "contig-ranges", {"start_pfn": start, "end_pfn": start + 4096}


def find_range(host: HostApi) -> Ask:
    full_of_huge_pages(host, 512)
    return "POST", "contig-ranges", {"nr_pages": 4096, "node": 1}


def take_cma(host: HostApi) -> Ask:
    (area,) = host.get()["cma_areas"]
    ask = {"cma": area["name"], "nr_pages": area["nr_pages"]}
    assert host.post("contig-ranges", ask).status_code == 201
    return "POST", "contig-ranges", ask


def unplug(host: HostApi) -> Ask:
    host.post("memory-blocks", {"node": 0, "memory": "128M"})
    host.put(NR, {"count": 64})
    host.put(STUCK, {"times": 1000})
    return "POST", "memory-blocks/32/unplug", {"memory": "64M"}


def huge_page(host: HostApi) -> int:
    """First page of a huge page."""
    for row in host.get("memory-blocks")["items"]:
        if row["hugepages"]["2048kB"]:
            pages = range(row["start_pfn"], row["start_pfn"] + row["nr_pages"], 512)
            return next(pfn for pfn in pages if host.get(f"pages/{pfn}")["use"] == "hugetlb")
    raise AssertionError("there is none")


def poison_twice(host: HostApi) -> Ask:
    host.put(NR, {"count": 1})
    head = huge_page(host)
    host.put(STUCK, {})
    assert host.post(f"pages/{head + 3}/poison", {"mode": "soft"}).json()["action"] == "kept"
    host.post("tasks", {"kind": "hugetlb", "count": 1, "touch": 1})
    host.delete(STUCK)
    host.put(NR, {"count": 2})
    return "POST", f"pages/{head + 4}/poison", {"mode": "soft"}


def poison_used(host: HostApi) -> Ask:
    host.put(NR, {"count": 1})
    head = huge_page(host)
    host.post("tasks", {"kind": "hugetlb", "count": 1, "touch": 1})
    host.put(STUCK, {})
    return "POST", f"pages/{head}/poison", {"mode": "hard"}


GIB_PAGES = {"nodes": [{"memory": "6G"}]}
CASES = {
    "shrink": Case("pool._refusal", {}, shrink, 507, "ENOMEM", "injected-fault"),
    "demote": Case("pool.demote", {"kernel": "6.1", **GIB_PAGES}, demote, 507, "ENOMEM", "injected-fault"),
    "demote more": Case(
        "pool.demote", {"kernel": "6.12", **GIB_PAGES}, demote_more, 409, "EBUSY", "all-free-pages-reserved"
    ),
    "task": Case("huge_maps._mmap_refused", {}, task, 507, "ENOMEM", "pool-exhausted"),
    "fallocate": Case("files.fallocate", {}, fallocate, 507, "ENOSPC", "pool-exhausted"),
    "segment": Case("files.make_segment", {}, segment, 507, "ENOMEM", "cgroup-limit"),
    "offline": Case("memory_offline.offline_pages", MOVABLE, offline, 507, "ENOMEM", "vmemmap-restore"),
    "by file": Case("memory_block.set_block_state", MOVABLE, offline_file, 507, "ENOMEM", "vmemmap-restore"),
    "range": Case("contig_ranges.take_range", MOVABLE, take_range, 409, "EBUSY", "vmemmap-restore"),
    "search": Case("contig_ranges.find_and_take", MOVABLE, find_range, 507, "ENOMEM", "no-contiguous-memory"),
    "cma": Case(
        "contig_ranges.alloc_cma", {"cmdline": "cma=64M"}, take_cma, 507, "ENOMEM", "no-contiguous-memory"
    ),
    "unplug": Case("virtio_mem.unplug", PLUGGED, unplug, 409, "EBUSY", "vmemmap-restore"),
    "poison": Case("poison.poison_page", {}, poison_twice, 409, "EBUSY", "poison-lost"),
    "poison in use": Case(
        "memory_failure._give_up", {"kernel": "6.1"}, poison_used, 409, "EBUSY", "injected-fault"
    ),
}


def makers() -> Iterator[str]:
    """Every function of the engine that gives a refusal a result, by file and name."""
    for file in sorted(ENGINE.rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef) and any(map(_gives_a_result, ast.walk(function))):
                yield f"{file.stem}.{function.name}"


def _gives_a_result(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "MMError":
        return any(keyword.arg == "result" for keyword in node.keywords)
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(
        isinstance(target, ast.Attribute) and target.attr == "result" and not _is_self(target)
        for target in targets
    )


def _is_self(target: ast.Attribute) -> bool:
    return isinstance(target.value, ast.Name) and target.value.id == "self"


def test_every_refusal_of_the_engine_that_leaves_traces_is_walked_here() -> None:
    assert set(makers()) == {case.made_by for case in CASES.values()} | STEPS_ALONE


@pytest.mark.parametrize("word", CASES)
def test_a_refusal_that_leaves_traces_says_which_and_they_are_kept(api: Api, word: str) -> None:
    case = CASES[word]
    host = api.boot(**case.spec)
    host.put("deferred-frees", {"mode": "manual"})  # the worker changes nothing meanwhile
    method, path, body = case.before(host)
    before, _, events, _ = host.everything()
    sent: dict[str, Any] = {"content": body} if isinstance(body, str) else {"json": body}
    with host.nothing_changes():
        rehearsed = refused(
            host.ask(method, path, params={"dry_run": "true"}, **sent), case.status, case.errno
        )
    key = {"Idempotency-Key": "-".join(("traces", *word.split()))}
    answer = host.ask(method, path, headers=key, **sent)
    problem = refused(answer, case.status, case.errno)
    assert problem["reason"] == case.reason
    assert problem["result"]
    assert problem["result"] == rehearsed["result"]
    assert "location" not in answer.headers
    etag, _, after, _ = host.everything()
    assert answer.headers["etag"] == etag != before
    assert after["items"][: len(events["items"])] == events["items"]
    again = host.ask(method, path, headers=key, **sent)
    assert (again.status_code, again.json()) == (case.status, answer.json())
    assert again.headers["idempotent-replay"] == "true"
    assert host.ask("GET").headers["etag"] == etag
    assert host.get("audit")["ok"]
