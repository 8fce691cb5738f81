"""Why something was refused or fell short, in the words of problems and shortfalls; docs/http.md explains them."""

from enum import StrEnum


class Reason(StrEnum):
    """One word that a program can branch on."""

    VMEMMAP_RESTORE = "vmemmap-restore"  # no frames for the vmemmap of a huge page
    INJECTED_FAULT = "injected-fault"  # an armed fault point refused
    WATERMARK = "watermark"  # taking the memory would go below a watermark
    NO_CONTIGUOUS_MEMORY = "no-contiguous-memory"  # no free block of the size
    IN_USE = "in-use"  # applications use the pages
    RESERVED = "reserved"  # the pages are promised to mappings
    SURPLUS_NOT_RETRIED = (
        "surplus-not-retried"  # pages that could not be freed before, and are not tried again
    )
    OTHER_NODE = "other-node"  # what is left lies on other nodes
    POOL_EXHAUSTED = "pool-exhausted"  # a mapping needs more huge pages than there are
    MEMORY_HOLES = "memory-holes"  # part of a memory block is no RAM
    MULTIZONE_RANGE = "multizone-range"  # not online memory of one zone
    POISON_LOST = "poison-lost"  # a huge page with a poisoned page was lost as a whole (5.14)
    IN_FLIGHT = "in-flight"  # a huge page waits for the deferred-free worker
    MEMORY_PRESENT = "memory-present"  # there is memory at that address already
    BLOCK_ONLINE = "block-online"  # a block has to go offline first
    VMEMMAP_POPULATE = "vmemmap-populate"  # no memory for the page structures of new memory
    UNMOVABLE_PAGE = "unmovable-page"  # memory of the kernel is in the way
    ALL_FREE_PAGES_RESERVED = "all-free-pages-reserved"  # no free huge page may leave the pool
    LIVELOCK = "livelock"  # pages come back as often as they are moved
    MIGRATION_TARGET = "migration-target"  # no place for what has to move
    NOT_MIGRATABLE = "not-migratable"  # a huge page in use cannot be moved before it is freed (6.18)
    PARSE = "parse"  # text that a file does not take
    GIGANTIC_PAGE = "gigantic-page"  # a page of 1 GiB cannot do that
    READ_ONLY = "read-only"  # the mode of a file
    WRITE_ONLY = "write-only"  # the mode of a file
    IS_A_DIRECTORY = "is-a-directory"  # a path names a folder
    NOT_A_DIRECTORY = "not-a-directory"  # part of a path is no folder
    QUOTA = "quota"  # the service keeps no more of it
    CGROUP_LIMIT = "cgroup-limit"  # a cgroup may have no more huge pages, or no more reserved
    CGROUP_IN_USE = "cgroup-in-use"  # more is charged to a cgroup than the new limit
    CGROUP_POPULATED = "cgroup-populated"  # tasks or cgroups are in a cgroup
    CGROUP_INTERNAL = "cgroup-internal"  # a cgroup that passes its controller on takes no tasks
    CGROUP_EXISTS = "cgroup-exists"  # the name is taken
    NO_SUCH_CGROUP = "no-such-cgroup"  # no folder of that path
    CONTROLLER_OFF = "controller-off"  # the cgroup above does not pass the hugetlb controller on
    NO_SUCH_TASK = "no-such-task"  # no process of that number
    MOUNT_FULL = "mount-full"  # a hugetlbfs mount may have no more pages (size=)
    MOUNT_BUSY = "mount-busy"  # files of a mount are mapped
    NOT_MOUNTED = "not-mounted"  # no hugetlbfs at that path
    NO_SUCH_FILE = "no-such-file"  # no file of that path
    BEYOND_END_OF_FILE = "beyond-end-of-file"  # a touch behind the end of a file
    TAKEN_BY_PARENT = "taken-by-parent"  # the pages a child shared went to its parent
    POISONED_PAGE = "poisoned-page"  # the page turned bad
    SEGMENT_EXISTS = "segment-exists"  # the key has a SysV segment
    NOT_IN_SHM_GROUP = "not-in-shm-group"  # not in hugetlb_shm_group
