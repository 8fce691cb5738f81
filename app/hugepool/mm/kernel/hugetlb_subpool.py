"""What a hugetlbfs mount may use (``size=``) and what is kept for it (``min_size=``).

Source: mm/hugetlb.c hugepage_subpool_get_pages(), hugepage_subpool_put_pages() (5.14).
"""

from hugepool.mm.machine.errors import NoHugePage
from hugepool.mm.machine.mappings import Mount
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host, HState


def mount_of(host: Host, mount_id: int) -> Mount | None:
    """The mount of a number if it has limits: others are not counted."""
    return next((m for m in host.mounts if m.mount_id == mount_id and m.limited), None)


def get_pages(mount: Mount | None, pages: int) -> int:
    """Count pages for a mount; how many the pool has to give or to reserve: the minimum is reserved already.

    Raises:
        NoHugePage: ``size=`` does not allow them.
    """
    if mount is None:
        return pages
    if mount.max != -1:
        if mount.used + pages > mount.max:
            raise NoHugePage(Reason.MOUNT_FULL, mount=mount.path, limit=mount.max, used=mount.used)
        mount.used += pages
    from_minimum = min(pages, max(0, mount.rsv))
    mount.rsv -= from_minimum
    return pages - from_minimum


def put_pages(mount: Mount | None, pages: int) -> int:
    """Pages or reservations of a mount end; how many reservations the pool may drop: the minimum is filled up first."""
    if mount is None:
        return pages
    if mount.max != -1:
        mount.used -= pages
    if mount.min == -1 or mount.used >= mount.min:
        return pages
    kept = min(pages, mount.min - mount.rsv)
    mount.rsv += kept
    return pages - kept


def refund(host: Host, hs: HState, mount: Mount | None, pages: int, left: int) -> None:
    """Pages were counted for a mount, and the pool refused them; ``left``: what the minimum had before.

    Most kernels give all of them back to the minimum, also those that were none of it (a defect): the minimum then
    counts as reserved what is not.
    """
    if mount is None:
        return
    if host.profile.exact_promises:
        mount.used -= pages if mount.max != -1 else 0
        mount.rsv = left
    else:
        put_pages(mount, pages)
    hs.resv_drift -= mount.rsv - left
