"""Parts that several commands' answers have in common."""

from dataclasses import asdict

from hugepool.mm.machine.state import Call, HState


def counters(hs: HState) -> dict[str, int]:
    """The sysfs counters of a size, and ``max_huge_pages``: what /proc/sys/vm/nr_hugepages reads back."""
    return {
        "nr_hugepages": hs.nr_huge_pages,
        "free_hugepages": hs.free_huge_pages,
        "resv_hugepages": hs.resv_shown,
        "surplus_hugepages": hs.surplus_huge_pages,
        "nr_overcommit_hugepages": hs.nr_overcommit_huge_pages,
        "max_huge_pages": hs.max_huge_pages,
    }


def vmemmap_of(call: Call) -> dict[str, int]:
    """What the command did to the vmemmap."""
    return asdict(call.vmemmap)
