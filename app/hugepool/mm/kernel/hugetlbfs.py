"""hugetlbfs: mounts, and files of huge pages.

Source: fs/hugetlbfs/inode.c hugetlbfs_fill_super(), hugetlbfs_fallocate(), hugetlbfs_punch_hole(),
hugetlb_vmtruncate(), remove_inode_hugepages(), hugetlb_file_setup() (5.14, 6.1, 6.12).
"""

from hugepool.mm.kernel.hugetlb_fault import alloc_huge_page, mappings_of, zap_range
from hugepool.mm.kernel.hugetlb_reserve import (
    Policy,
    acct_memory,
    free_huge_page,
    return_unused_surplus_pages,
)
from hugepool.mm.kernel.hugetlb_resv_map import Asker, unreserve_pages
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile, Mount
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.resv_map import ENDLESS
from hugepool.mm.machine.state import Call, Host

KERNEL_MOUNT = 0
DEFAULT_PATH = "/dev/hugepages"
BLOCKS_PER_PAGE = 8  # st_blocks counts units of 512 bytes
MAX_FILE_PAGES = 1 << 24  # 32 TiB of 2 MiB pages


# -- mounts -----------------------------------------------------------------------------------------------


def mount(host: Host, call: Call, path: str, order: int, maximum: int, minimum: int, policy: Policy) -> Mount:
    """Mount a hugetlbfs; ``maximum`` and ``minimum`` in huge pages, -1: not given.

    Raises:
        MMError: EINVAL a minimum above the maximum; ENOMEM the pool cannot reserve the minimum.
    """
    hs = host.hstates[order]
    if maximum != -1 and minimum > maximum:
        call.printk("hugetlbfs: Minimum size can not be greater than maximum size")
        raise BadInput(f"{minimum} pages are more than max, {maximum}", where="min")
    free = hs.free_huge_pages - hs.resv_huge_pages
    if minimum > 0 and not acct_memory(host, call, hs, minimum, policy):
        raise MMError("ENOMEM", f"min_size needs {minimum} huge pages of {hs.size}; {max(0, free)} are free and "
                      "not reserved", reason=Reason.POOL_EXHAUSTED, pages_needed=minimum,
                      pages_available=max(0, free))  # fmt: skip
    made = Mount(host.next_mount_id, path, order, maximum, minimum, rsv=max(0, minimum))
    host.next_mount_id += 1
    host.mounts.append(made)
    return made


def mount_default(host: Host) -> None:
    """Mount a hugetlbfs of the default size, as systemd does when a machine comes up."""
    host.mounts.append(Mount(host.next_mount_id, DEFAULT_PATH, host.default_order))
    host.next_mount_id += 1


def find_mount(host: Host, path: str) -> Mount:
    """The mount at a path: the latest, which hides others.  Raises ENOENT."""
    found = next((m for m in reversed(host.mounts) if m.path == path), None)
    if found is None:
        raise NotFound(f"no hugetlbfs is mounted at {path[:80]!r}", reason=Reason.NOT_MOUNTED)
    return found


def umount(host: Host, call: Call, gone: Mount) -> int:
    """Unmount: its files go with their pages, its minimum is given back; how many pages were freed.

    Raises:
        MMError: EBUSY while a file of it is mapped; nothing changes.
    """
    files = files_on(host, gone)
    users = sorted({t.pid for t in host.tasks.values() for m in t.maps.values() if _on(host, m, gone)})
    if users:
        raise MMError("EBUSY", f"files of {gone.path} are mapped", reason=Reason.MOUNT_BUSY, pids=users)
    freed = 0
    for file in files:
        file.path = None
        freed += evict(host, call, file)
    host.mounts.remove(gone)
    if gone.min > 0:
        hs = host.hstates[gone.order]
        hs.resv_drift += gone.rsv - gone.min
        return_unused_surplus_pages(host, call, hs, gone.min)
    return freed


def _on(host: Host, mapping: HugeMap, mounted: Mount) -> bool:
    return mapping.file_id is not None and host.files[mapping.file_id].mount == mounted.mount_id


def files_on(host: Host, mounted: Mount) -> list[HugetlbFile]:
    """The files of a mount, unlinked ones that are still mapped included."""
    return [file for file in host.files.values() if file.mount == mounted.mount_id]


def statfs(mounted: Mount) -> tuple[int, int, int]:
    """f_blocks, f_bfree and f_files in huge pages: zero without limits, as the kernel answers (-1: 2**64 - 1)."""
    if not mounted.limited:
        return 0, 0, 0
    return mounted.max, mounted.max - mounted.used, -1


# -- files ------------------------------------------------------------------------------------------------


def mount_at(host: Host, path: str) -> Mount:
    """The mount that a file's path lies on: the innermost, and of those at one place the latest.

    Raises:
        NotFound: no mount there.
    """
    folder = path.rpartition("/")[0]
    over = [m for m in host.mounts if folder == m.path or folder.startswith(m.path.rstrip("/") + "/")]
    if not over:
        raise NotFound(f"{path[:80]} is on no hugetlbfs mount", reason=Reason.NOT_MOUNTED)
    return max(reversed(over), key=lambda m: len(m.path))


def lookup(host: Host, path: str) -> HugetlbFile | None:
    """The file at a path, or the SysV segment of that name."""
    where = KERNEL_MOUNT if "/" not in path else mount_at(host, path).mount_id
    return next((f for f in host.files.values() if f.path == path and f.mount == where), None)


def find(host: Host, path: str) -> HugetlbFile:
    """The file at a path.  Raises ENOENT."""
    file = lookup(host, path)
    if file is None:
        raise NotFound(f"no hugetlbfs file {path[:80]!r}", reason=Reason.NO_SUCH_FILE)
    return file


def create(host: Host, path: str) -> HugetlbFile:
    """Create an empty file.  Raises ENOENT where no hugetlbfs is mounted."""
    where = mount_at(host, path)
    return add_file(host, HugetlbFile(host.next_file_id, where.order, path, where.mount_id))


def add_file(host: Host, file: HugetlbFile) -> HugetlbFile:
    """Enter a file of the next number."""
    host.next_file_id += 1
    host.files[file.file_id] = file
    return file


def blocks(file: HugetlbFile) -> int:
    """st_blocks: units of 512 bytes that are there."""
    return len(file.pages) * BLOCKS_PER_PAGE << file.order


def fallocate(host: Host, call: Call, asker: Asker, file: HugetlbFile, first: int, count: int) -> int:
    """Fill pages of a file; how many are new.  The size grows only when all are there.

    Raises:
        NoHugePage: one cannot be allocated; those before it stay.
    """
    fallocating = HugeMap(0, file.order, ENDLESS, shared=True, noreserve=False, file_id=file.file_id)
    before = len(file.pages)
    for index in range(first, first + count):
        if index not in file.pages:
            file.pages[index] = alloc_huge_page(host, call, asker, fallocating, index)
    file.size = max(file.size, first + count)
    return len(file.pages) - before


def punch_hole(host: Host, call: Call, file: HugetlbFile, first: int, count: int) -> int:
    """Free pages of a file, and what private mappings have copied of them; how many of the file."""
    _zap_mappings(host, call, file, first, first + count)
    inside = [index for index in sorted(file.pages) if first <= index < first + count]
    for index in inside:
        _free(host, call, file, index)
        unreserve_pages(host, call, file, index, index + 1, 1)
    file.poisoned -= set(inside)
    return len(inside)


def truncate(host: Host, call: Call, file: HugetlbFile, size: int) -> int:
    """Set a file's size in huge pages; how many pages beyond it are freed, those of the file alone."""
    file.size = size
    _zap_mappings(host, call, file, size, ENDLESS)
    beyond = [index for index in sorted(file.pages) if index >= size]
    for index in beyond:
        _free(host, call, file, index)
    unreserve_pages(host, call, file, size, ENDLESS, len(beyond))
    file.poisoned = {index for index in file.poisoned if index < size}
    return len(beyond)


def unlink(host: Host, call: Call, file: HugetlbFile) -> int:
    """Take a file's name away; how many pages are freed: none while it is mapped."""
    file.path = None
    return evict(host, call, file)


def evict(host: Host, call: Call, file: HugetlbFile) -> int:
    """A file that nobody names or maps any more goes; how many pages are freed."""
    if file.path is not None or any(True for _ in mappings_of(host, file)):
        return 0
    freed = truncate(host, call, file, 0)
    del host.files[file.file_id]
    return freed


def _zap_mappings(host: Host, call: Call, file: HugetlbFile, first: int, end: int) -> None:
    """Unmap pages of a file from all mappings; private copies of them are freed."""
    for mapping in mappings_of(host, file):
        low = max(0, first - mapping.offset)
        high = min(mapping.count, end - mapping.offset)
        if low < high:
            zap_range(host, call, mapping, low, high)


def _free(host: Host, call: Call, file: HugetlbFile, index: int) -> None:
    free_huge_page(host, call, host.hstates[file.order], file.pages.pop(index))
