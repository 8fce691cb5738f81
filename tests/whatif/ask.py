"""Short ways to ask what-if questions in tests."""

from dataclasses import asdict
from typing import Any

from hugepool.whatif.run import Hosts, run
from hugepool.whatif.scenario import Scenario, check

ON = "hugetlb_free_vmemmap=on"
Json = dict[str, Any]


def spec(*nodes: str, **more: Any) -> Json:
    """A machine to boot; one node of 1 GiB that frees vmemmap unless said otherwise."""
    return {"spec": {"cmdline": ON, "nodes": [{"memory": size} for size in nodes or ("1G",)], **more}}


def question(*steps: Json, host: Any = None, **more: Any) -> Json:
    """A document."""
    return {"host": host or spec(), "steps": list(steps), **more}


def scenario(document: Json) -> Scenario:
    """A document, read and checked."""
    found = Scenario.model_validate(document)
    check(found)
    return found


def ask(*steps: Json, host: Any = None, hosts: Hosts | None = None) -> Json:
    """The answer to a question."""
    return asdict(run(scenario(question(*steps, host=host)), hosts or {}))


def rows(answer: Json) -> list[tuple[Any, ...]]:
    """Errno, nr, free, resv, surplus and max of the 2 MiB pool after each step."""
    names = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "max_huge_pages")
    return [
        (step["errno"], *(step["counters"]["2048kB"][name] for name in names)) for step in answer["steps"]
    ]
