"""Examples for /docs, and the bodies' parameters that carry them."""

from typing import Any

from fastapi import Body

from hugepool.mm.machine.profile import DEFAULT_KERNEL


def _body(discriminator: str | None = None, /, **examples: tuple[str, Any]) -> Any:
    """A required JSON body with named examples; ``discriminator``: the field that tells its kind."""
    return Body(
        discriminator=discriminator,
        openapi_examples={
            name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()
        },
    )


HOST: Any = _body(
    spec=(
        "Boot two nodes of 64 GiB that free vmemmap",
        {
            "name": "lab",
            "spec": {
                "kernel": DEFAULT_KERNEL,
                "cmdline": "hugetlb_free_vmemmap=on",
                "nodes": [{"memory": "64G", "cpus": 16}, {"memory": "64G", "cpus": 16}],
            },
        },
    ),
    small=("Boot a small machine", {"name": "tiny", "spec": {"nodes": [{"memory": "1G"}]}}),
    files=(
        "Read a real machine (files shortened here)",
        {
            "name": "prod-17",
            "files": {"/proc/meminfo": "...", "/proc/zoneinfo": "...", "/proc/buddyinfo": "..."},
        },
    ),
    fork=("Copy another host", {"name": "lab-2", "fork_of": "lab"}),
)
POOL_SIZE: Any = _body(
    all_nodes=("All nodes", {"count": 512}),
    one_node=("One node", {"count": 512, "node": 0}),
    mempolicy=("Spread over some nodes", {"count": 512, "mempolicy": [0, 1]}),
)
OVERCOMMIT: Any = _body(some=("Up to 64 surplus pages", {"count": 64}))
DEMOTE: Any = _body(one=("Split one gigantic page", {"count": 1}))
BLOCK_STATE: Any = _body(
    offline=("Take the block offline", {"state": "offline"}),
    online=("Bring it back as movable memory", {"state": "online_movable"}),
)
ADD_MEMORY: Any = _body(dimm=("Plug 1 GiB into node 0", {"node": 0, "memory": "1G"}))
UNPLUG: Any = _body(part=("Take 64 MiB out", {"memory": "64M"}))
VIRTIO_MEM: Any = _body(
    device=(
        "Up to 1 GiB for node 0, all of it at once",
        {"id": "vm0", "node": 0, "max": "1G", "block_size": "2M", "requested": "1G"},
    )
)
VIRTIO_MEM_REQUEST: Any = _body(less=("Leave it 512 MiB", {"requested": "512M"}))
POISON: Any = _body(
    hard=("The page turned bad", {"mode": "hard"}),
    soft=("Take it out before it does", {"mode": "soft"}),
)
CONTIG: Any = _body(
    range=("128 MiB at a place", {"start_pfn": 1048576, "end_pfn": 1081344}),
    search=("2 MiB anywhere on node 0", {"nr_pages": 512, "node": 0}),
    cma=("16 MiB out of the area of cma=", {"nr_pages": 4096, "cma": "reserved"}),
)
TASK: Any = _body(
    "kind",
    hugetlb=(
        "Map and touch 8 huge pages on node 0",
        {"kind": "hugetlb", "size": "2048kB", "count": 8, "touch": 8, "policy": {"bind": [0]}},
    ),
    anon=("2 GiB of movable memory", {"kind": "anon", "memory": "2G", "mlock": True}),
    kernel=("300 MiB of unmovable memory", {"kind": "kernel", "memory": "300M", "node": 0}),
    cache=("1 GiB of page cache", {"kind": "cache", "memory": "1G", "clean": True}),
    pod=(
        "A file of huge pages that others may map, too, in a cgroup",
        {
            "kind": "hugetlb",
            "file": "/dev/hugepages/vm1",
            "shared": True,
            "count": 8,
            "touch": 8,
            "cgroup": "kubepods/pod1",
        },
    ),
)
TOUCH: Any = _body(four=("Four more pages", {"count": 4}))
WRITE: Any = _body(four=("The first four pages", {"from": 0, "count": 4}))
UNMAP: Any = _body(all=("All of the first mapping", {}), part=("Two pages", {"from": 2, "count": 2}))
MOVE: Any = _body(pod=("Into a pod's cgroup", {"cgroup": "kubepods/pod1"}))
CGROUP: Any = _body(
    limits=("At most 256 pages of 2 MiB", {"hugetlb": {"2048kB": {"max": 256, "rsvd_max": None}}}),
)
MOUNT: Any = _body(
    limits=(
        "At most 100 pages, ten of them reserved",
        {"path": "/mnt/huge", "size": "2048kB", "max": 100, "min": 10},
    ),
)
FILE: Any = _body(
    "op",
    fallocate=("Fill the first four pages", {"op": "fallocate", "from": 0, "count": 4}),
    punch=("Free two of them", {"op": "punch", "from": 1, "count": 2}),
    truncate=("Keep one page", {"op": "truncate", "count": 1}),
    unlink=("Remove it", {"op": "unlink"}),
    shmget=("A SysV segment of eight pages", {"op": "shmget", "count": 8}),
)
DEFERRED_MODE: Any = _body(manual=("Keep the queue until it is drained", {"mode": "manual"}))
FAULT: Any = _body(
    three=("Fail the next three", {"probability": 100, "interval": 1, "times": 3, "space": 0}),
)
WHAT_IF: Any = _body(
    shrink=(
        "A pool that cannot shrink",
        {
            "host": {"spec": {"cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "4G", "cpus": 2}]}},
            "steps": [
                {"resize": {"size": "2048kB", "count": 16}},
                {"fault": {"point": "vmemmap-restore"}},
                {
                    "resize": {"size": "2048kB", "count": 0},
                    "expect": {"errno": "ENOMEM", "counters.2048kB.surplus_hugepages": 16},
                },
            ],
        },
    ),
    variants=(
        "How many pages can be allocated, by size of the machine",
        {
            "host": {"spec": {"nodes": [{"memory": "4G"}]}},
            "steps": [{"label": "grow", "resize": {"size": "2048kB", "count": 100000}}],
            "variants": {
                "grid": {"host.spec.nodes.0.memory": ["2G", "4G", "8G"]},
                "columns": ["steps.grow.result.allocated"],
            },
        },
    ),
)

RESET: Any = _body(ready=("Back to a snapshot", {"to": "ready"}))
LABELS: Any = _body(rack=("Where it stands", {"labels": {"rack": "7", "role": "database"}}))
FLEET: Any = _body(
    racks=(
        "40 hosts of one machine",
        {
            "hosts": [
                {
                    "name": "web-{i}",
                    "count": 40,
                    "spec": {"nodes": [{"memory": "4G"}]},
                    "labels": {"rack": "7"},
                }
            ]
        },
    )
)
MAX_POOL: Any = _body(keep=("Keep 4 GiB for the system", {"size": "2048kB", "keep": "4G"}))
SAVINGS: Any = _body(pool=("A pool of 16 GiB", {"size": "2048kB", "count": 8192}))
HEADROOM: Any = _body(some=("Give 64 pages back", {"size": "2048kB", "count": 64}))
OFFLINE: Any = _body(wanted=("Give me 1 GiB back", {"memory": "1G"}))
PLACEMENT: Any = _body(vm=("A VM of 8 GiB on node 0", {"memory": "8G", "size": "2048kB", "nodes": [0]}))
CHURN: Any = _body(short=("A short history, twice", {"rounds": 2, "seeds": 2, "unmovable_percent": 20}))

_COUNTERS = {
    "nr_hugepages": 0,
    "free_hugepages": 0,
    "resv_hugepages": 0,
    "surplus_hugepages": 0,
    "nr_overcommit_hugepages": 0,
    "max_huge_pages": 0,
}
RESIZE = {
    "requested": 512,
    "before": _COUNTERS,
    "after": {**_COUNTERS, "nr_hugepages": 512, "free_hugepages": 512, "max_huge_pages": 512},
    "allocated": 512,
    "freed": 0,
    "refused": 0,
    "converted_surplus": 0,
    "vmemmap": {"pages_freed": 3072, "pages_restored": 0, "page_table_pages": 8},
    "nodes": [
        {"node": 0, "allocated": 256, "freed": 0, "refused": 0},
        {"node": 1, "allocated": 256, "freed": 0, "refused": 0},
    ],
    "full_nodes": [],
    "reclaimed_pages": 0,
    "compacted_blocks": 0,
    "shortfall": None,
    "injected_fault": False,
}
HUGEPAGES = {
    "size": "2048kB",
    "order": 9,
    "nr_hugepages": 512,
    "free_hugepages": 512,
    "resv_hugepages": 0,
    "surplus_hugepages": 0,
    "max_huge_pages": 512,
    "nr_overcommit_hugepages": 0,
    "nr_free_vmemmap_pages": 6,
    "optimized_hugepages": 512,
    "nodes": [
        {"node": 0, "nr_hugepages": 256, "free_hugepages": 256, "surplus_hugepages": 0},
        {"node": 1, "nr_hugepages": 256, "free_hugepages": 256, "surplus_hugepages": 0},
    ],
}
SECTION = {
    "section": 40,
    "mapping": "pte",
    "optimized_hugepages": 1,
    "pages_freed": 6,
    "node": 0,
    "block": 40,
    "page_table_pfn": 1052016,
    "runs": [
        {"first_page": 0, "nr_pages": 2, "pfn": 132397568, "step": 1, "writable": True},
        {"first_page": 2, "nr_pages": 6, "pfn": 132397569, "step": 0, "writable": False},
        {"first_page": 8, "nr_pages": 504, "pfn": 132397576, "step": 1, "writable": True},
    ],
}
PAGE = {
    "pfn": 1310720,
    "node": 0,
    "zone": "Normal",
    "section": 40,
    "block": 40,
    "pageblock_migratetype": "Movable",
    "use": "hugetlb",
    "hugepage": {
        "size": "2048kB",
        "head_pfn": 1310720,
        "free": True,
        "optimized": True,
        "queued": False,
        "pid": None,
        "file": None,
        "cgroup": None,
    },
    "buddy": None,
    "origin": None,
    "page_table_of_section": None,
    "pid": None,
    "struct_page": {
        "virtual_address": "0xffffea0005000000",
        "pfn": 132397568,
        "mapping": "pte",
        "writable": True,
    },
}
STARTED = {
    "pid": 1000,
    "kind": "hugetlb",
    "comm": "task",
    "parent": None,
    "cgroup": "",
    "cpu": 0,
    "reclaimed_pages": 0,
    "compacted_blocks": 0,
    "oom": [],
    "swapped_pages": 0,
    "policy": {"mode": "bind", "nodes": [0]},
    "node": None,
    "mlock": False,
    "pages": 0,
    "memory_bytes": 0,
    "maps": [
        {
            "map": 0,
            "size": "2048kB",
            "count": 8,
            "touched": 8,
            "reserved": 0,
            "shared": False,
            "noreserve": False,
            "file": None,
            "offset": 0,
        }
    ],
    "map": 0,
    "touched": 8,
    "signal": None,
    "reason": None,
    "facts": {},
    "vmemmap": {"pages_freed": 0, "pages_restored": 0, "page_table_pages": 0},
    "injected_fault": False,
}
