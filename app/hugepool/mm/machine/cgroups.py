"""Control groups (v2) as state: the folders, and what the hugetlb controller counts for them.

Counts are in huge pages.  The root has no limits and no files, so nothing is counted for it: cgroup 0 stands for it.
Source: mm/hugetlb_cgroup.c, include/linux/page_counter.h (5.14).
"""

from dataclasses import dataclass, field
from typing import Any

ROOT = 0  # number of the root's controller state, which is not kept
ROOT_PATH = ""


@dataclass(slots=True)
class PageCounter:
    """One count with its limit (None: ``max``); ``failcnt``: how often this limit refused a charge."""

    usage: int = 0
    max: int | None = None
    failcnt: int = 0


@dataclass(slots=True)
class HugetlbCgroup:
    """What the hugetlb controller keeps for one cgroup.

    ``parent``: number of the nearest cgroup above that has the controller.  ``online``: its folder is there; one that
    was removed stays while reservations are charged to it.  By order of huge pages: ``pages`` is charged when a page
    is allocated, ``reservations`` at mmap; ``events`` counts refusals of the cgroup and all below, ``events_local``
    those of its own tasks.
    """

    cgroup_id: int
    parent: int
    path: str
    online: bool = True
    pages: dict[int, PageCounter] = field(default_factory=dict)
    reservations: dict[int, PageCounter] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)
    events_local: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Cgroup:
    """A folder below /sys/fs/cgroup: its path without a leading slash (the root: empty).

    ``cgroup_id``: its controller state, 0 while the parent has the controller off.
    ``subtree_control``: the controller is on for the folders in it.
    """

    path: str
    cgroup_id: int = ROOT
    subtree_control: bool = False


@dataclass(frozen=True, slots=True)
class PageCharge:
    """Who pays for a huge page in use.

    ``pages`` and ``reservations``: cgroups charged, 0 the root or none; ``mount``: the hugetlbfs mount whose
    ``size=`` and ``min_size=`` it counts for, 0 none.
    """

    pages: int = ROOT
    reservations: int = ROOT
    mount: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "PageCharge":
        """It never changes, so copies of a host share it."""
        return self
