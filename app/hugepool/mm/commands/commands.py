"""What can be asked of a host.  Commands are imperative, plain data; ``registry`` knows which handler answers which."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hugepool.mm.machine.group_outcomes import (
    Cgroup,
    ChangedFile,
    MadeSegment,
    MountedHugetlbfs,
    RemovedCgroup,
    UnlinkedFile,
    Unmounted,
)
from hugepool.mm.machine.memory_outcomes import (
    AddedMemory,
    AllocatedRange,
    BlockChange,
    ContigRange,
    EjectedMemory,
    FreedPages,
    Poisoned,
    RemovedDevice,
    RemovedMemory,
    Unplugged,
    VirtioMemRun,
)
from hugepool.mm.machine.outcomes import (
    AutoOnline,
    CompactedMemory,
    Disarmed,
    Drained,
    DroppedCaches,
    Fault,
    LowmemReserveRatio,
    MinFreeKbytes,
    OptimizeVmemmap,
    ShmGroup,
    TransparentHugepage,
    WatermarkScaleFactor,
    WorkerMode,
    WrittenFile,
)
from hugepool.mm.machine.pool_outcomes import (
    Demotion,
    Overcommit,
    Resize,
)
from hugepool.mm.machine.task_outcomes import (
    ExitedTask,
    StartedTask,
    Task,
    TaskPages,
    Touched,
    UnmappedPages,
)

Answer_co = TypeVar("Answer_co", covariant=True)


class Command(Generic[Answer_co]):
    """Something that can be asked of a host; a kind of command names the class that it is answered with."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SetMaxHugePages(Command[Resize]):
    """Write a pool size.  ``nid``: the per-node file; ``mempolicy``: nodes of a ``*_mempolicy`` write."""

    order: int
    count: int
    nid: int | None = None
    mempolicy: tuple[int, ...] | None = None
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class SetOvercommit(Command[Overcommit]):
    """Write nr_overcommit_hugepages."""

    order: int
    count: int


@dataclass(frozen=True, slots=True)
class Demote(Command[Demotion]):
    """Write the ``demote`` file: split free gigantic pages into pages of the next smaller size (6.1+)."""

    order: int
    count: int
    nid: int | None = None
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class SetOptimizeVmemmap(Command[OptimizeVmemmap]):
    """Write /proc/sys/vm/hugetlb_optimize_vmemmap (kernels that have it)."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class SetMinFreeKbytes(Command[MinFreeKbytes]):
    """Write /proc/sys/vm/min_free_kbytes."""

    kbytes: int


@dataclass(frozen=True, slots=True)
class SetWatermarkScaleFactor(Command[WatermarkScaleFactor]):
    """Write /proc/sys/vm/watermark_scale_factor, from 1 to the profile's limit."""

    factor: int


@dataclass(frozen=True, slots=True)
class SetLowmemReserveRatio(Command[LowmemReserveRatio]):
    """Write or read /proc/sys/vm/lowmem_reserve_ratio: either recomputes the reserves.  None: a read."""

    ratios: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class WriteWithoutEffect(Command[WrittenFile]):
    """A write that the kernel takes and that moves nothing in the model (tuning of the guest)."""

    path: str


@dataclass(frozen=True, slots=True)
class StartTask(Command[Task]):
    """A process begins.  ``resident`` movable pages and ``tables`` unmovable ones come with it."""

    kind: str = "process"
    comm: str = "task"
    policy_mode: str = "default"
    policy_nodes: tuple[int, ...] = ()
    cpu: int = 0
    mlock: bool = False
    node: int | None = None
    resident: int = 0
    tables: int = 0
    cgroup: str = ""


@dataclass(frozen=True, slots=True)
class RunOnCpu(Command[Task]):
    """sched_setaffinity of a task to one CPU."""

    pid: int
    cpu: int


@dataclass(frozen=True, slots=True)
class SetMempolicy(Command[Task]):
    """set_mempolicy of a task: mode default, bind, interleave, preferred or local."""

    pid: int
    mode: str
    nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GrowTask(Command[TaskPages]):
    """A task touches more memory: movable (anon) or unmovable (kernel) single pages.

    ``pages`` to take, or with ``at_most``: until no more than that number of order-0 pages is allocatable for a
    request of zone type ``zone_type`` on ``node`` (None: all nodes), and no more than ``pages`` where that is not 0.
    ``partial``: take what there is.
    """

    pid: int
    kind: str
    pages: int = 0
    node: int | None = None
    partial: bool = False
    at_most: int | None = None
    zone_type: int = 2
    until_node: int | None = None


@dataclass(frozen=True, slots=True)
class ShrinkTask(Command[TaskPages]):
    """A task gives back its most recently taken pages.

    ``keep_of_256``: instead, of every 256 pages keep this number (fragmentation).
    """

    pid: int
    pages: int = 0
    keep_of_256: int | None = None


@dataclass(frozen=True, slots=True)
class FillCache(Command[TaskPages]):
    """Files are read (``clean``), or written and not synced: the cache of an owner grows by up to ``pages``."""

    pid: int
    pages: int
    node: int | None = None
    clean: bool = True


@dataclass(frozen=True, slots=True)
class DropCaches(Command[DroppedCaches]):
    """Write /proc/sys/vm/drop_caches: 1 the page cache, 2 reclaimable kernel objects, 3 both; 4 nothing."""

    mode: int


@dataclass(frozen=True, slots=True)
class CompactMemory(Command[CompactedMemory]):
    """Write /proc/sys/vm/compact_memory, or (``nid``) the ``compact`` file of a node."""

    nid: int | None = None


@dataclass(frozen=True, slots=True)
class PinTask(Command[TaskPages]):
    """A long-term pin of anonymous pages of a task: ``pages`` of them, the oldest first (None: all).

    ``skip``: older pages that are left alone.
    """

    pid: int
    pages: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class AdoptPages(Command[TaskPages]):
    """A task takes over pages that an imported machine already had in use."""

    pid: int
    kind: str
    pages: int


@dataclass(frozen=True, slots=True)
class MapHugePages(Command[Touched]):
    """mmap of ``count`` huge pages by a task; ``touch`` of them are faulted in at once.

    ``file``: the path of a hugetlbfs file (created when it is not there) or the name of a SysV segment, from page
    ``offset`` on; None: anonymous memory (MAP_HUGETLB).  ``order``: None for the file's.
    ``populate``: MAP_POPULATE: a page that cannot be allocated is no SIGBUS.
    """

    pid: int
    order: int | None
    count: int
    shared: bool = False
    noreserve: bool = False
    touch: int = 0
    file: str | None = None
    offset: int = 0
    populate: bool = False


@dataclass(frozen=True, slots=True)
class TouchHugePages(Command[Touched]):
    """Fault in pages ``first`` .. of a mapping (None: the lowest untouched ones).

    ``read``: without writing to them, so that nothing is copied.
    """

    pid: int
    map_id: int
    count: int
    first: int | None = None
    read: bool = False


@dataclass(frozen=True, slots=True)
class AdviseHugePages(Command[UnmappedPages]):
    """madvise of a whole mapping: ``dontneed`` (MADV_DONTNEED) or ``remove`` (MADV_REMOVE)."""

    pid: int
    map_id: int
    advice: str


@dataclass(frozen=True, slots=True)
class ForkTask(Command[Task]):
    """fork: a child with the same mappings; private pages are shared until written."""

    pid: int
    comm: str | None = None


@dataclass(frozen=True, slots=True)
class UnmapHugePages(Command[UnmappedPages]):
    """munmap of a mapping or of a part of it."""

    pid: int
    map_id: int
    first: int = 0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class ExitTask(Command[ExitedTask]):
    """A process ends: everything it mapped is unmapped."""

    pid: int


# -- hugetlbfs, SysV segments: counts in huge pages -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MountHugetlbfs(Command[MountedHugetlbfs]):
    """Mount a hugetlbfs.  ``maximum``: size=, ``minimum``: min_size= (None: not given)."""

    path: str
    order: int
    maximum: int | None = None
    minimum: int | None = None


@dataclass(frozen=True, slots=True)
class Umount(Command[Unmounted]):
    """Unmount a hugetlbfs; its files go.  ``empty``: only if there are none."""

    path: str
    empty: bool = False


@dataclass(frozen=True, slots=True)
class FallocateFile(Command[ChangedFile]):
    """fallocate on a hugetlbfs file, which is created when it is not there.  ``pid``: who does it (None: root)."""

    path: str
    count: int
    first: int = 0
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class PunchFile(Command[ChangedFile]):
    """fallocate(FALLOC_FL_PUNCH_HOLE): free pages of a hugetlbfs file."""

    path: str
    count: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class TruncateFile(Command[ChangedFile]):
    """ftruncate of a hugetlbfs file, which is created when it is not there."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class UnlinkFile(Command[UnlinkedFile]):
    """Remove a hugetlbfs file, or a SysV segment (IPC_RMID): its pages go with the last mapping."""

    path: str


@dataclass(frozen=True, slots=True)
class MakeSegment(Command[MadeSegment]):
    """shmget(SHM_HUGETLB): make a SysV segment.

    ``groups``: the groups of a process without CAP_IPC_LOCK; None: it has it.
    """

    key: int
    order: int
    count: int
    noreserve: bool = False
    pid: int | None = None
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class SetShmGroup(Command[ShmGroup]):
    """Write /proc/sys/vm/hugetlb_shm_group: the group that may make huge SysV segments."""

    gid: int


@dataclass(frozen=True, slots=True)
class SetTransparentHugepage(Command[TransparentHugepage]):
    """Write a file of /sys/kernel/mm/transparent_hugepage; the text was checked by who reads it.

    ``file``: its path in that folder, such as ``khugepaged/defrag``.
    """

    file: str
    value: str


# -- control groups ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeCgroup(Command[Cgroup]):
    """mkdir of a cgroup.

    ``parents``: make those above as well, each with the controller on (cgroup.subtree_control).
    """

    path: str
    parents: bool = False


@dataclass(frozen=True, slots=True)
class PutCgroup(Command[Cgroup]):
    """A cgroup, made with those above where it is not there, and limits of it: (order, kind, huge pages) each."""

    path: str
    limits: tuple[tuple[int, str, int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveCgroup(Command[RemovedCgroup]):
    """rmdir of a cgroup."""

    path: str


@dataclass(frozen=True, slots=True)
class SetCgroupLimit(Command[Cgroup]):
    """Write hugetlb.<size>.max (``kind`` pages) or .rsvd.max (reservations); ``limit`` in huge pages, None: max."""

    path: str
    order: int
    kind: str
    limit: int | None


@dataclass(frozen=True, slots=True)
class SetSubtreeControl(Command[Cgroup]):
    """Write ``+hugetlb`` or ``-hugetlb`` to cgroup.subtree_control."""

    path: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class MoveTask(Command[Task]):
    """Write a pid to cgroup.procs."""

    pid: int
    cgroup: str


@dataclass(frozen=True, slots=True)
class SetFault(Command[Fault]):
    """Arm a fault point with the kernel's words."""

    point: str
    probability: int = 100
    interval: int = 1
    times: int = -1
    space: int = 0


@dataclass(frozen=True, slots=True)
class ClearFault(Command[Disarmed]):
    """Disarm a fault point."""

    point: str


@dataclass(frozen=True, slots=True)
class SetDeferredMode(Command[WorkerMode]):
    """``auto``: the service's worker drains; ``manual``: only a drain command (or a resize) does."""

    mode: str


@dataclass(frozen=True, slots=True)
class SetBlockState(Command[BlockChange]):
    """Write a memory block's ``state``: offline, online, online_kernel or online_movable.

    ``repeat_ok``: a state already reached is success, as for the file ``online``; else EINVAL.
    """

    block: int
    word: str
    repeat_ok: bool = False
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class SetAutoOnline(Command[AutoOnline]):
    """Write auto_online_blocks: what hot-added memory does by itself; the words of a block's state."""

    word: str


@dataclass(frozen=True, slots=True)
class AddMemory(Command[AddedMemory]):
    """Plug ``pages`` of memory into a node; ``start_pfn``: where, else behind the machine's RAM."""

    node: int
    pages: int
    start_pfn: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveMemory(Command[RemovedMemory]):
    """Unplug an offline memory block."""

    block: int


@dataclass(frozen=True, slots=True)
class EjectMemory(Command[EjectedMemory]):
    """Ask a memory device (a DIMM) to leave: ``blocks`` memory blocks from ``block`` on."""

    block: int
    blocks: int
    comm: str = "kworker/u2:0"


@dataclass(frozen=True, slots=True)
class UnplugMemory(Command[Unplugged]):
    """virtio-mem: take ``pages`` out of an online memory block, sub-block by sub-block."""

    block: int
    pages: int
    comm: str = "kworker/0:1"


@dataclass(frozen=True, slots=True)
class AddVirtioMem(Command[VirtioMemRun]):
    """Give the machine a virtio-mem device and ask for some of its memory; sizes in pages of 4 KiB.

    ``start_pfn``: the first page of its region, else behind the machine's RAM.  ``there_pages``: how much memory of the
    region the machine has already, from its start on: whole memory blocks.
    """

    name: str
    node: int
    pages: int
    block_pages: int
    requested_pages: int
    start_pfn: int | None = None
    there_pages: int = 0
    comm: str = "kworker/0:1"


@dataclass(frozen=True, slots=True)
class RequestVirtioMem(Command[VirtioMemRun]):
    """The hypervisor wants ``pages`` of a device's region to be memory."""

    name: str
    pages: int
    comm: str = "kworker/0:1"


@dataclass(frozen=True, slots=True)
class RetryVirtioMem(Command[VirtioMemRun]):
    """The timer of a device fires, or the driver is woken: it tries again."""

    name: str
    comm: str = "kworker/0:1"


@dataclass(frozen=True, slots=True)
class RemoveVirtioMem(Command[RemovedDevice]):
    """Take a device that has nothing plugged away."""

    name: str


@dataclass(frozen=True, slots=True)
class PoisonPage(Command[Poisoned]):
    """A page turned bad (``hard``), or is to be taken out before it does (``soft``)."""

    pfn: int
    mode: str
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class AllocContigRange(Command[AllocatedRange]):
    """alloc_contig_range: empty pages ``start_pfn`` .. ``end_pfn`` (excluded) and take them."""

    start_pfn: int
    end_pfn: int
    migratetype: str = "MOVABLE"
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class AllocContigPages(Command[AllocatedRange]):
    """alloc_contig_pages: find and take ``nr_pages`` pages in a row, on a node (None: the first)."""

    nr_pages: int
    node: int | None = None
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class FreeContigRange(Command[ContigRange]):
    """free_contig_range of a range taken before."""

    range_id: int


@dataclass(frozen=True, slots=True)
class AllocCma(Command[AllocatedRange]):
    """cma_alloc: take ``nr_pages`` pages in a row out of an area."""

    area: str
    nr_pages: int
    comm: str = "bash"


@dataclass(frozen=True, slots=True)
class FreeCma(Command[FreedPages]):
    """cma_release of up to ``nr_pages`` pages of an area, the latest range first."""

    area: str
    nr_pages: int


@dataclass(frozen=True, slots=True)
class RunFreeHpageWork(Command[Drained]):
    """Work off the queue of deferred frees."""

    comm: str = "kworker/0:1"


@dataclass(frozen=True, slots=True)
class CreateTask(Command[StartedTask]):
    """The API's task: start a process and let it use memory, all or nothing.

    ``kind``: ``hugetlb``, ``anon``, ``kernel`` or ``cache``; ``pages`` of 4 KiB for all but the first.  ``file``,
    ``offset`` and ``order``: as in ``MapHugePages``.  ``pinned``: anonymous pages never move.  ``clean``: page cache
    that is neither dirty nor mapped.
    """

    kind: str
    comm: str = "task"
    order: int | None = 9
    count: int = 0
    touch: int = 0
    shared: bool = False
    noreserve: bool = False
    pages: int = 0
    mlock: bool = False
    node: int | None = None
    policy_mode: str = "default"
    policy_nodes: tuple[int, ...] = field(default=())
    cgroup: str = ""
    file: str | None = None
    offset: int = 0
    pinned: bool = False
    clean: bool = True
    cpu: int = 0
