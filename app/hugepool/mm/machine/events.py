"""What can happen to a host, in the past tense.  docs/http.md says what each event carries."""

from enum import StrEnum
from typing import Any


class Event(StrEnum):
    """The type of an event of a host's history."""

    AUTO_ONLINE_SET = "AutoOnlineSet"
    CMA_ALLOC_REFUSED = "CmaAllocRefused"
    CONTIG_RANGE_ALLOCATED = "ContigRangeAllocated"
    CONTIG_RANGE_FREED = "ContigRangeFreed"
    CONTIG_RANGE_REFUSED = "ContigRangeRefused"
    DEFERRED_FREES_DRAINED = "DeferredFreesDrained"
    DEFERRED_MODE_SET = "DeferredModeSet"
    FAULT_ARMED = "FaultArmed"
    FAULT_DISARMED = "FaultDisarmed"
    FILE_ALLOCATED = "FileAllocated"
    FILE_UNLINKED = "FileUnlinked"
    HOST_BOOTED = "HostBooted"
    HOST_FORKED = "HostForked"
    HUGE_PAGE_FREE_DEFERRED = "HugePageFreeDeferred"
    HUGE_PAGE_MIGRATED = "HugePageMigrated"
    HUGE_PAGES_DEMOTED = "HugePagesDemoted"
    HUGE_PAGES_MAPPED = "HugePagesMapped"
    HUGE_PAGES_TOUCHED = "HugePagesTouched"
    HUGE_PAGES_UNMAPPED = "HugePagesUnmapped"
    KERNEL_MESSAGE_PRINTED = "KernelMessagePrinted"
    LOWMEM_RESERVE_SET = "LowmemReserveSet"
    MACHINE_IMPORTED = "MachineImported"
    MEMORY_ADDED = "MemoryAdded"
    MEMORY_BLOCK_OFFLINE = "MemoryBlockOffline"
    MEMORY_BLOCK_OFFLINE_FAILED = "MemoryBlockOfflineFailed"
    MEMORY_BLOCK_ONLINE = "MemoryBlockOnline"
    MEMORY_REMOVED = "MemoryRemoved"
    MEMORY_UNPLUGGED = "MemoryUnplugged"
    MEMPOLICY_SET = "MempolicySet"
    OPTIMIZE_VMEMMAP_SET = "OptimizeVmemmapSet"
    OVERCOMMIT_SET = "OvercommitSet"
    PAGE_POISONED = "PagePoisoned"
    PAGES_ADOPTED = "PagesAdopted"
    PAGES_MIGRATED = "PagesMigrated"
    POOL_RESIZED = "PoolResized"
    TASK_EXITED = "TaskExited"
    TASK_GREW = "TaskGrew"
    TASK_SHRANK = "TaskShrank"
    TASK_STARTED = "TaskStarted"
    VMEMMAP_RESTORE_REFUSED = "VmemmapRestoreRefused"
    VMEMMAP_SPLIT = "VmemmapSplit"
    WATERMARKS_SET = "WatermarksSet"


Occurrence = tuple[Event, dict[str, Any]]  # what happened, and its data as plain JSON
