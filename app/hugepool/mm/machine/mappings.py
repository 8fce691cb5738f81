"""Huge pages as processes see them: mappings, hugetlbfs files and their mounts.

Source: fs/hugetlbfs/inode.c, include/linux/hugetlb.h struct hugepage_subpool, struct resv_map (5.14).
"""

from dataclasses import dataclass, field, replace
from typing import Any

from hugepool.mm.machine.resv_map import ResvMap


@dataclass(slots=True)
class HugeMap:
    """One mmap of huge pages by a task; indexes count its pages from 0.

    Attributes:
        file_id: the file behind it; None: private anonymous memory.  ``offset``: its first page in the file.
        owner: a private mapping that made its own reservation; a copy made by fork is none.
        pages: first pageblock per page of the mapping's own (anonymous) memory; a shared mapping has none.
        consumed: of an owner, the pages whose reservation is used up or given back.
        cgroup: of an owner, the cgroup whose reservations it is charged to.
        file_pages: of a private mapping, pages of the file that it has only read.
        gone: pages that were unmapped.  ``poisoned``: pages that turned bad.
        killed: a page was taken away from it in favour of the owner: any further fault is a SIGBUS.
    """

    map_id: int
    order: int
    count: int
    shared: bool
    noreserve: bool
    file_id: int | None = None
    offset: int = 0
    owner: bool = False
    cgroup: int = 0
    killed: bool = False
    pages: dict[int, int] = field(default_factory=dict)
    consumed: ResvMap = field(default_factory=ResvMap)
    file_pages: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    poisoned: set[int] = field(default_factory=set)

    @property
    def promised(self) -> int:
        """Pages that are reserved for this private mapping and not used yet."""
        return self.count - self.consumed.pages(0, self.count) if self.owner else 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "HugeMap":
        """Numbers need no copy of their own: a mapping of 100,000 pages is copied in 1 ms."""
        return replace(
            self,
            pages=dict(self.pages),
            consumed=self.consumed.copy(),
            file_pages=set(self.file_pages),
            gone=set(self.gone),
            poisoned=set(self.poisoned),
        )


@dataclass(slots=True)
class HugetlbFile:
    """A file of huge pages: on hugetlbfs, a SysV segment, or what stands behind shared anonymous memory.

    Attributes:
        path: where it is; None: unlinked, or it never had a name.  It lives while it has a name or is mapped.
        mount: the mount it is on, 0 the kernel's own.
        size: st_size in huge pages.  ``pages``: first pageblock per page that is there.
        resv: pages that are promised or there.  ``poisoned``: pages that turned bad.
        segment: a SysV segment: reserved when it was made, not when it is mapped.
    """

    file_id: int
    order: int
    path: str | None = None
    mount: int = 0
    size: int = 0
    segment: bool = False
    pages: dict[int, int] = field(default_factory=dict)
    resv: ResvMap = field(default_factory=ResvMap)
    poisoned: set[int] = field(default_factory=set)

    @property
    def promised(self) -> int:
        """Pages that are reserved for the file and not there yet."""
        return self.resv.pages() - len(self.pages)

    def __deepcopy__(self, memo: dict[int, Any]) -> "HugetlbFile":
        """As for mappings."""
        return replace(self, pages=dict(self.pages), resv=self.resv.copy(), poisoned=set(self.poisoned))


@dataclass(slots=True)
class Mount:
    """A hugetlbfs mount, and what its ``size=`` and ``min_size=`` count, in huge pages (-1: not given).

    ``used``: pages and reservations that count for ``size=``; ``rsv``: what is left of ``min_size=``, reserved in
    the pool.
    """

    mount_id: int
    path: str
    order: int
    max: int = -1
    min: int = -1
    used: int = 0
    rsv: int = 0

    @property
    def limited(self) -> bool:
        """It has a ``size=`` or a ``min_size=``: the kernel keeps a subpool for it."""
        return self.max != -1 or self.min != -1
