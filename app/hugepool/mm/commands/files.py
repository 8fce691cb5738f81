"""hugetlbfs mounts, files on them, and SysV segments.

Source: fs/hugetlbfs/inode.c, ipc/shm.c newseg() (5.14).
"""

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.pool import hstate
from hugepool.mm.commands.registry import handles
from hugepool.mm.commands.task import asker_of, find
from hugepool.mm.kernel import hugetlb_resv_map, hugetlbfs
from hugepool.mm.kernel.hugetlb_reserve import Policy
from hugepool.mm.kernel.hugetlb_resv_map import Asker
from hugepool.mm.machine import group_outcomes
from hugepool.mm.machine.errors import BadInput, MMError, NoHugePage
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.group_outcomes import (
    ChangedFile,
    HugetlbfsMount,
    MadeSegment,
    MountedHugetlbfs,
    UnlinkedFile,
    Unmounted,
)
from hugepool.mm.machine.mappings import HugetlbFile, Mount
from hugepool.mm.machine.outcomes import Kept, ShmGroup, TransparentHugepage, shallow, vmemmap_of
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import ULONG_MAX

MAX_PATH = 4095
MAX_NAME = 255
MAX_GID = (1 << 31) - 1
MAX_KEY = (1 << 32) - 1


def check_path(path: str) -> None:
    """Refuse what is no plain absolute path.  Raises EINVAL."""
    names = path.split("/")[1:]
    if not path.startswith("/") or not path.isprintable() or any(name in ("", ".", "..") for name in names):
        raise BadInput("must be an absolute path without empty names, . and ..", where="path")
    if len(path) > MAX_PATH or any(len(name) > MAX_NAME for name in names):
        raise BadInput(f"must have at most {MAX_PATH} characters, {MAX_NAME} in a name", where="path")


# -- mounts -----------------------------------------------------------------------------------------------


@handles(c.MountHugetlbfs)
def mount(host: Host, call: Call, cmd: c.MountHugetlbfs) -> MountedHugetlbfs:
    """Mount a hugetlbfs; at a path that has one it hides the older.

    Raises:
        MMError: ENOENT no such size; EINVAL a minimum above the maximum; ENOMEM the pool cannot reserve the minimum.
    """
    hs = hstate(host, cmd.order)
    check_path(cmd.path)
    for where, number in (("max", cmd.maximum), ("min", cmd.minimum)):
        if number is not None and not 0 <= number <= ULONG_MAX >> (hs.order + 12):
            raise BadInput(f"must be 0..{ULONG_MAX >> (hs.order + 12)}, not {number}", where=where)
    maximum, minimum = (-1 if number is None else number for number in (cmd.maximum, cmd.minimum))
    made = hugetlbfs.mount(host, call, cmd.path, hs.order, maximum, minimum, _anywhere(host))
    call.emit(Event.HUGETLBFS_MOUNTED, path=cmd.path, size=hs.size, max=cmd.maximum, min=cmd.minimum)
    return MountedHugetlbfs(**shallow(mount_view(host, made)))


@handles(c.Umount)
def umount(host: Host, call: Call, cmd: c.Umount) -> Unmounted:
    """Unmount a hugetlbfs: its files go, its minimum is given back.

    Raises:
        MMError: ENOENT nothing is mounted there; EBUSY a file of it is mapped, or is there where none may be.
    """
    gone = hugetlbfs.find_mount(host, cmd.path)
    files = len(hugetlbfs.files_on(host, gone))
    if cmd.empty and files:
        raise MMError("EBUSY", f"{files} files are on {cmd.path}", reason=Reason.MOUNT_BUSY, files=files)
    freed = hugetlbfs.umount(host, call, gone)
    call.emit(Event.HUGETLBFS_UNMOUNTED, path=cmd.path, freed=freed)
    return Unmounted(cmd.path, files, freed, len(host.deferred), vmemmap_of(call))


def mount_view(host: Host, mounted: Mount) -> HugetlbfsMount:
    """A mount as answers show it."""
    files = hugetlbfs.files_on(host, mounted)
    maximum, minimum = (None if limit == -1 else limit for limit in (mounted.max, mounted.min))
    return HugetlbfsMount(
        mounted.path,
        host.hstates[mounted.order].size,
        maximum,
        minimum,
        None if maximum is None else mounted.used,
        mounted.rsv,
        sum(len(file.pages) for file in files),
        sorted(file.path for file in files if file.path is not None),
    )


def _anywhere(host: Host) -> Policy:
    nodes = host.memory_nodes()
    return Policy(tuple(nodes), nodes[0])


# -- files ------------------------------------------------------------------------------------------------


@handles(c.FallocateFile)
def fallocate(host: Host, call: Call, cmd: c.FallocateFile) -> ChangedFile:
    """Fill a hugetlbfs file with pages; it is created when it is not there.

    Raises:
        MMError: ENOENT no mount there; ENOSPC a page cannot be allocated: those before it stay, the size does not grow.
    """
    _check_part(cmd.first, cmd.count)
    asker = Asker(_anywhere(host)) if cmd.pid is None else asker_of(host, find(host, cmd.pid))
    file = _open(host, cmd.path)
    before = len(file.pages)
    try:
        hugetlbfs.fallocate(host, call, asker, file, cmd.first, cmd.count)
    except NoHugePage as refused:
        new = len(file.pages) - before
        raise MMError("ENOSPC", f"page {cmd.first + new} and those after it cannot be allocated", reason=refused.reason,
                      result=_changed(host, call, file, allocated=new), **refused.facts) from None  # fmt: skip
    call.emit(Event.FILE_ALLOCATED, path=cmd.path, count=cmd.count)
    return _changed(host, call, file, allocated=len(file.pages) - before)


@handles(c.PunchFile)
def punch(host: Host, call: Call, cmd: c.PunchFile) -> ChangedFile:
    """Free pages of a file, and private copies of them.  Raises ENOENT."""
    _check_part(cmd.first, cmd.count)
    file = _no_segment(hugetlbfs.find(host, cmd.path))
    freed = hugetlbfs.punch_hole(host, call, file, cmd.first, cmd.count)
    call.emit(Event.FILE_PUNCHED, path=cmd.path, first=cmd.first, count=cmd.count, freed=freed)
    return _changed(host, call, file, freed=freed)


@handles(c.TruncateFile)
def truncate(host: Host, call: Call, cmd: c.TruncateFile) -> ChangedFile:
    """Set a file's size; it is created when it is not there.  Raises ENOENT no mount there; EINVAL."""
    if not 0 <= cmd.size <= hugetlbfs.MAX_FILE_PAGES:
        raise BadInput(f"must be 0..{hugetlbfs.MAX_FILE_PAGES}, not {cmd.size}", where="count")
    file = _open(host, cmd.path)
    freed = hugetlbfs.truncate(host, call, file, cmd.size)
    call.emit(Event.FILE_TRUNCATED, path=cmd.path, size=cmd.size, freed=freed)
    return _changed(host, call, file, freed=freed)


@handles(c.UnlinkFile)
def unlink(host: Host, call: Call, cmd: c.UnlinkFile) -> UnlinkedFile:
    """Remove a file or a SysV segment: its pages are freed, with the last mapping of it.  Raises ENOENT."""
    file = hugetlbfs.find(host, cmd.path)
    freed = hugetlbfs.unlink(host, call, file)
    call.emit(Event.FILE_UNLINKED, path=cmd.path)
    return UnlinkedFile(cmd.path, freed, file.file_id in host.files, len(host.deferred), vmemmap_of(call))


def _open(host: Host, path: str) -> HugetlbFile:
    """open(O_CREAT)."""
    file = hugetlbfs.lookup(host, path)
    if file is None:
        check_path(path)
        file = hugetlbfs.create(host, path)
    return _no_segment(file)


def _no_segment(file: HugetlbFile) -> HugetlbFile:
    if file.segment:
        raise BadInput("a SysV segment cannot be opened: it has the size it was made with", where="path")
    return file


def _check_part(first: int, count: int) -> None:
    most = hugetlbfs.MAX_FILE_PAGES
    if not 0 <= first < most:
        raise BadInput(f"must be 0..{most - 1}, not {first}", where="from")
    if not 1 <= count <= most - first:
        raise BadInput(f"must be 1..{most - first}, not {count}", where="count")


def file_view(host: Host, file: HugetlbFile) -> group_outcomes.HugetlbFile:
    """A file as answers show it."""
    pids = {t.pid for t in host.tasks.values() for m in t.maps.values() if m.file_id == file.file_id}
    size, blocks = host.hstates[file.order].size, hugetlbfs.blocks(file)
    return group_outcomes.HugetlbFile(
        file.path, size, file.size, len(file.pages), file.promised, blocks, file.segment, sorted(pids)
    )


def _changed(host: Host, call: Call, file: HugetlbFile, *, allocated: int = 0, freed: int = 0) -> ChangedFile:
    return ChangedFile(
        **shallow(file_view(host, file)),
        allocated=allocated,
        freed=freed,
        queued=len(host.deferred),
        vmemmap=vmemmap_of(call),
    )


# -- SysV segments ----------------------------------------------------------------------------------------


@handles(c.MakeSegment)
def make_segment(host: Host, call: Call, cmd: c.MakeSegment) -> MadeSegment:
    """shmget(SHM_HUGETLB): pages are reserved as the segment is made.

    Raises:
        MMError: EPERM neither CAP_IPC_LOCK nor in hugetlb_shm_group; EEXIST the key has a segment; ENOMEM no pages.
    Source: fs/hugetlbfs/inode.c can_do_hugetlb_shm(), hugetlb_file_setup() (5.14).
    """
    hs = hstate(host, cmd.order)
    _check_segment(host, cmd)
    file = HugetlbFile(host.next_file_id, hs.order, f"SYSV{cmd.key:08x}", size=cmd.count, segment=True)
    asker = Asker(_anywhere(host)) if cmd.pid is None else asker_of(host, find(host, cmd.pid))
    if not cmd.noreserve:
        try:
            hugetlb_resv_map.reserve_pages(host, call, asker, None, file, 0, cmd.count)
        except NoHugePage as refused:
            kept = Kept(vmemmap_of(call)) if refused.reason == Reason.CGROUP_LIMIT else None
            raise MMError("ENOMEM", f"{cmd.count} huge pages of {hs.size} cannot be reserved", reason=refused.reason,
                          result=kept, pages_needed=cmd.count, **refused.facts) from None  # fmt: skip
    hugetlbfs.add_file(host, file)
    call.emit(Event.SEGMENT_MADE, name=file.path, size=hs.size, count=cmd.count)
    return MadeSegment(**shallow(file_view(host, file)), vmemmap=vmemmap_of(call))


def _check_segment(host: Host, cmd: c.MakeSegment) -> None:
    if not 0 <= cmd.key <= MAX_KEY:
        raise BadInput(f"must be 0..{MAX_KEY}, not {cmd.key}", where="key")
    if not 1 <= cmd.count <= hugetlbfs.MAX_FILE_PAGES:
        raise BadInput(f"must be 1..{hugetlbfs.MAX_FILE_PAGES}, not {cmd.count}", where="count")
    if cmd.groups is not None and host.hugetlb_shm_group not in cmd.groups:
        raise MMError("EPERM", f"hugetlb_shm_group is {host.hugetlb_shm_group}, the process is in "
                      f"{', '.join(map(str, cmd.groups)) or 'no group'}", reason=Reason.NOT_IN_SHM_GROUP,
                      group=host.hugetlb_shm_group)  # fmt: skip
    name = f"SYSV{cmd.key:08x}"
    if hugetlbfs.lookup(host, name) is not None:
        raise MMError("EEXIST", f"{name} is there already", reason=Reason.SEGMENT_EXISTS)


@handles(c.SetTransparentHugepage)
def set_transparent_hugepage(host: Host, call: Call, cmd: c.SetTransparentHugepage) -> TransparentHugepage:
    """Keep what a file of transparent huge pages was set to.

    Not modelled: transparent huge pages; no fault and no khugepaged makes one.
    """
    host.transparent_hugepage[cmd.file] = cmd.value
    call.emit(Event.TRANSPARENT_HUGEPAGE_SET, file=cmd.file, value=cmd.value)
    return TransparentHugepage(cmd.file, cmd.value)


@handles(c.SetShmGroup)
def set_shm_group(host: Host, call: Call, cmd: c.SetShmGroup) -> ShmGroup:
    """Set the group whose processes may make huge SysV segments without CAP_IPC_LOCK."""
    if not 0 <= cmd.gid <= MAX_GID:
        raise BadInput(f"must be 0..{MAX_GID}, not {cmd.gid}", where="gid")
    host.hugetlb_shm_group = cmd.gid
    call.emit(Event.SHM_GROUP_SET, gid=cmd.gid)
    return ShmGroup(cmd.gid)
