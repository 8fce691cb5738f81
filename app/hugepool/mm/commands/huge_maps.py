"""Mappings of huge pages: mmap, touching, munmap, madvise.

Source: mm/hugetlb.c hugetlb_reserve_pages(), hugetlb_fault(), hugetlb_vm_op_close(); fs/hugetlbfs/inode.c
hugetlbfs_file_mmap(), hugetlb_file_setup() (5.14).
"""

from collections.abc import Iterable
from itertools import islice

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.pool import hstate
from hugepool.mm.commands.registry import handles
from hugepool.mm.commands.task import asker_of, find, find_process
from hugepool.mm.kernel import hugetlb_fault, hugetlb_resv_map, hugetlbfs
from hugepool.mm.kernel.hugetlb_resv_map import Asker
from hugepool.mm.machine.errors import BadInput, MMError, NoHugePage, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile
from hugepool.mm.machine.outcomes import Kept, counters, vmemmap_of
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState, Task, VmemmapDelta
from hugepool.mm.machine.task_outcomes import Touched, UnmappedPages

MAX_MAP_PAGES = 1 << 24  # 32 TiB of 2 MiB pages
ADVICE = ("dontneed", "remove")
Touch = tuple[int, NoHugePage | None]


# -- mmap -------------------------------------------------------------------------------------------------


@handles(c.MapHugePages)
def map_huge_pages(host: Host, call: Call, cmd: c.MapHugePages) -> Touched:
    """mmap huge pages, and touch some.

    Raises:
        MMError: ENOENT no such task, or no hugetlbfs at the file's path; ENOMEM when the reservation cannot be made:
            nothing is kept but what the kernel itself keeps (frames of surplus pages that were optimised for a moment
            count in MemTotal for ever, a cgroup counts the refusal).
    """
    _check_range(cmd)
    task = find_process(host, cmd.pid)
    file = _file_to_map(host, cmd)
    hs = host.hstates[file.order] if file is not None else hstate(host, cmd.order or host.default_order)
    mapping = HugeMap(task.next_map_id, hs.order, cmd.count, cmd.shared, cmd.noreserve,
                      file.file_id if file is not None else None, cmd.offset)  # fmt: skip
    if not (cmd.noreserve or (file is not None and file.segment)):
        _reserve(host, call, asker_of(host, task), hs, mapping, file)
    if file is not None and not file.segment:
        file.size = max(file.size, cmd.offset + cmd.count)
    task.next_map_id += 1
    task.maps[mapping.map_id] = mapping
    touched, refused = _fault_in(host, call, task, mapping, cmd)
    call.emit(Event.HUGE_PAGES_MAPPED, pid=task.pid, map=mapping.map_id, size=hs.size, count=cmd.count)
    return _touched(call, task, mapping, touched, refused)


def _check_range(cmd: c.MapHugePages) -> None:
    if not 1 <= cmd.count <= MAX_MAP_PAGES:
        raise BadInput(f"must be 1..{MAX_MAP_PAGES}, not {cmd.count}", where="count")
    if not 0 <= cmd.touch <= cmd.count:
        raise BadInput(f"must be 0..count ({cmd.count}), not {cmd.touch}", where="touch")
    if not 0 <= cmd.offset <= MAX_MAP_PAGES - cmd.count:
        raise BadInput(f"must be 0..{MAX_MAP_PAGES} less the count, not {cmd.offset}", where="offset")
    if cmd.file is None and cmd.offset:
        raise BadInput("only a file has an offset", where="offset")


def _file_to_map(host: Host, cmd: c.MapHugePages) -> HugetlbFile | None:
    """The file that is mapped: created when it is not there, or one without a name for shared anonymous memory."""
    if cmd.file is None:
        if not cmd.shared:
            return None
        hs = hstate(host, cmd.order or host.default_order)
        return hugetlbfs.add_file(host, HugetlbFile(host.next_file_id, hs.order))
    file = hugetlbfs.lookup(host, cmd.file)
    if file is None:
        file = hugetlbfs.create(host, cmd.file)
    if cmd.order not in (None, file.order):
        size = host.hstates[file.order].size
        raise BadInput(f"{cmd.file} is on a mount of {size} pages", where="size")
    if file.segment and (not cmd.shared or cmd.offset or cmd.count != file.size):
        raise BadInput(f"a segment is mapped whole and shared: {file.size} pages from 0", where="file")
    return file


def _reserve(
    host: Host, call: Call, asker: Asker, hs: HState, mapping: HugeMap, file: HugetlbFile | None
) -> None:
    free = hs.free_huge_pages - hs.resv_huge_pages
    if asker.policy.strict:
        free = min(free, sum(hs.free_node[n] for n in asker.policy.order))
    before = counters(hs), [repr(mounted) for mounted in host.mounts]
    try:
        end = mapping.offset + mapping.count
        hugetlb_resv_map.reserve_pages(host, call, asker, mapping, file, mapping.offset, end)
    except NoHugePage as refused:
        after = counters(hs), [repr(mounted) for mounted in host.mounts]
        kept = call.vmemmap != VmemmapDelta() or after != before or refused.reason == Reason.CGROUP_LIMIT
        if file is not None:
            hugetlbfs.evict(host, call, file)
        raise _mmap_refused(call, hs, mapping.count, max(0, free), refused, kept=kept) from None


def _mmap_refused(call: Call, hs: HState, count: int, free: int, why: NoHugePage, *, kept: bool) -> MMError:
    """ENOMEM; kept where pages were made for a moment (their boot frames stay in MemTotal) or given back."""
    details = {
        Reason.CGROUP_LIMIT: "{charged} huge pages are charged to cgroup {cgroup}, whose {file} is {limit}",
        Reason.MOUNT_FULL: "{used} huge pages of mount {mount} are used or reserved, its size is {limit}",
    }
    pool = f"{free} free and unreserved, surplus limited to {hs.nr_overcommit_huge_pages}"
    detail = details[why.reason].format(**why.facts) if why.reason in details else pool
    return MMError("ENOMEM", f"{count} huge pages of {hs.size} asked, {detail}", reason=why.reason,
                   result=Kept(vmemmap_of(call)) if kept else None, pages_needed=count, pages_available=free,
                   **why.facts)  # fmt: skip


# -- touching ---------------------------------------------------------------------------------------------


@handles(c.TouchHugePages)
def touch_huge_pages(host: Host, call: Call, cmd: c.TouchHugePages) -> Touched:
    """Fault in pages of a mapping; stops with ``signal: SIGBUS`` at the first that cannot be allocated."""
    task = find(host, cmd.pid)
    mapping = mapping_of(task, cmd.map_id)
    if cmd.count < 0:
        raise BadInput(f"must be 0 or more, not {cmd.count}", where="count")
    indexes: Iterable[int]
    if cmd.first is None:
        indexes = islice(_untouched(host, mapping), cmd.count)
    else:
        indexes = range(cmd.first, cmd.first + cmd.count)
        outside = cmd.first < 0 or cmd.first + cmd.count > mapping.count
        if outside or any(i in indexes for i in mapping.gone):
            raise BadInput(
                f"pages {cmd.first}.. are not mapped: the mapping has {mapping.count}", where="first"
            )
    touched, refused = touch(host, call, task, mapping, indexes, read=cmd.read)
    call.emit(Event.HUGE_PAGES_TOUCHED, pid=task.pid, map=mapping.map_id, count=touched)
    return _touched(call, task, mapping, touched, refused)


def _untouched(host: Host, mapping: HugeMap) -> Iterable[int]:
    file = hugetlb_fault.file_of(host, mapping)
    there = file.pages if mapping.shared and file is not None else mapping.pages
    first = mapping.offset if mapping.shared else 0
    return (i for i in range(mapping.count) if i + first not in there and i not in mapping.gone)


def touch(
    host: Host, call: Call, task: Task, mapping: HugeMap, indexes: Iterable[int], *, read: bool = False
) -> Touch:
    """Touch pages of a mapping one after the other; how many, and what refused the next one."""
    fault = hugetlb_fault.read_fault if read else hugetlb_fault.write_fault
    asker, done = asker_of(host, task), 0
    for index in indexes:
        if task.policy_mode == "interleave":
            asker = asker_of(host, task, index)
        try:
            fault(host, call, asker, task, mapping, index)
        except NoHugePage as refused:
            return done, refused
        done += 1
    return done, None


def _fault_in(host: Host, call: Call, task: Task, mapping: HugeMap, cmd: c.MapHugePages) -> Touch:
    """Touch pages of a new mapping; MAP_POPULATE tries the one that was refused once more, and never mind.

    Source: mm/gup.c __mm_populate() (6.1).
    """
    if not cmd.populate:
        return touch(host, call, task, mapping, range(cmd.touch))
    done, refused = touch(host, call, task, mapping, range(mapping.count))
    if refused is not None and done:
        touch(host, call, task, mapping, range(done, done + 1))
    return done, None


def _touched(call: Call, task: Task, mapping: HugeMap, touched: int, refused: NoHugePage | None) -> Touched:
    vmemmap = vmemmap_of(call)
    if refused is None:
        return Touched(task.pid, mapping.map_id, touched, None, None, {}, vmemmap)
    return Touched(task.pid, mapping.map_id, touched, "SIGBUS", refused.reason, refused.facts, vmemmap)


# -- munmap, madvise --------------------------------------------------------------------------------------


@handles(c.UnmapHugePages)
def unmap_huge_pages(host: Host, call: Call, cmd: c.UnmapHugePages) -> UnmappedPages:
    """munmap a mapping or a part of it."""
    task = find(host, cmd.pid)
    mapping = mapping_of(task, cmd.map_id)
    count = mapping.count - cmd.first if cmd.count is None else cmd.count
    if cmd.first < 0 or count < 1 or cmd.first + count > mapping.count:
        raise BadInput(f"pages {cmd.first}..{cmd.first + count - 1} are outside the mapping", where="first")
    freed = _unmap(host, call, task, mapping, cmd.first, count)
    call.emit(Event.HUGE_PAGES_UNMAPPED, pid=task.pid, map=mapping.map_id, count=count)
    return UnmappedPages(task.pid, mapping.map_id, freed, len(host.deferred), vmemmap_of(call))


def _unmap(host: Host, call: Call, task: Task, mapping: HugeMap, first: int, count: int) -> int:
    """Free the pages of a range, then give its promises back; of a file's last mapping, maybe the file."""
    freed = hugetlb_fault.zap_range(host, call, mapping, first, first + count)
    hugetlb_resv_map.close_range(host, call, mapping, first, first + count)
    mapping.gone.update(range(first, first + count))
    if len(mapping.gone) < mapping.count:
        return freed
    del task.maps[mapping.map_id]
    return freed + release_files(host, call, [mapping])


def unmap_all(host: Host, call: Call, task: Task) -> None:
    """A process ends: all its pages go, then all its promises, then files that nobody names or maps.

    Source: mm/mmap.c exit_mmap() (5.14).
    """
    gone = list(task.maps.values())
    for mapping in gone:
        hugetlb_fault.zap_range(host, call, mapping, 0, mapping.count)
    for mapping in gone:
        hugetlb_resv_map.close_range(host, call, mapping, 0, mapping.count)
    task.maps = {}
    release_files(host, call, gone)


def release_files(host: Host, call: Call, gone: Iterable[HugeMap]) -> int:
    """Files behind mappings that are gone: those that nobody names or maps any more go; pages freed."""
    numbers = dict.fromkeys(m.file_id for m in gone if m.file_id is not None)
    return sum(hugetlbfs.evict(host, call, host.files[number]) for number in numbers)


@handles(c.AdviseHugePages)
def advise(host: Host, call: Call, cmd: c.AdviseHugePages) -> UnmappedPages:
    """madvise of a mapping: its own pages go (dontneed), or those of its file (remove).

    Raises:
        MMError: EINVAL no such advice, dontneed on kernels that do not take it for huge pages, remove where nothing
            is shared.
    """
    task = find(host, cmd.pid)
    mapping = mapping_of(task, cmd.map_id)
    if cmd.advice not in ADVICE:
        raise BadInput(f"must be one of {', '.join(ADVICE)}, not {cmd.advice!r}", where="advice")
    file = hugetlb_fault.file_of(host, mapping)
    if cmd.advice == "dontneed":
        if not host.profile.madvise_dontneed:
            raise BadInput("this kernel does not take MADV_DONTNEED for huge pages", where="advice")
        freed = hugetlb_fault.zap_range(host, call, mapping, 0, mapping.count)
    elif file is None or not mapping.shared:
        raise BadInput("only what is shared can be removed", where="advice")
    else:
        freed = hugetlbfs.punch_hole(host, call, file, mapping.offset, mapping.count)
    call.emit(Event.HUGE_PAGES_ADVISED, pid=task.pid, map=mapping.map_id, advice=cmd.advice, freed=freed)
    return UnmappedPages(task.pid, mapping.map_id, freed, len(host.deferred), vmemmap_of(call))


def mapping_of(task: Task, map_id: int) -> HugeMap:
    """A task's mapping by number.  Raises ENOENT."""
    if map_id not in task.maps:
        raise NotFound(f"task {task.pid} has no mapping {map_id}", pid=task.pid)
    return task.maps[map_id]
