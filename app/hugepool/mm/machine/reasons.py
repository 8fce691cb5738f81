"""Why something was refused or fell short: a word that programs branch on, and a sentence for people."""

from enum import StrEnum


class Reason(StrEnum):
    """One word, and what it means to somebody who does not know the kernel."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> "Reason":
        """A member that equals its word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    VMEMMAP_RESTORE = (
        "vmemmap-restore",
        (
            "To give a huge page back, the kernel needs pages again that describe it, and found no memory "
            "for them above the watermarks of the node's kernel zones."
        ),
    )
    INJECTED_FAULT = (
        "injected-fault",
        "A fault point that somebody armed refused the request; memory had nothing to do with it.",
    )
    WATERMARK = (
        "watermark",
        "There is free memory, but taking it would leave a zone with less than its watermark.",
    )
    NO_CONTIGUOUS_MEMORY = (
        "no-contiguous-memory",
        "No block of free memory in one piece is as large as what was asked for.",
    )
    IN_USE = (
        "in-use",
        "Applications use the huge pages; they come back when the applications end or unmap them.",
    )
    RESERVED = "reserved", "The free huge pages are promised to mappings that have not touched them yet."
    SURPLUS_NOT_RETRIED = (
        "surplus-not-retried",
        (
            "These pages could not be given back earlier and count as surplus; a smaller target does not try "
            "them again."
        ),
    )
    OTHER_NODE = "other-node", "What is left lies on nodes that this request does not free from."
    POOL_EXHAUSTED = (
        "pool-exhausted",
        "The mapping needs more huge pages than are free, not promised to others, and allowed as surplus.",
    )
    MEMORY_HOLES = (
        "memory-holes",
        "Part of the memory block is no RAM, so the kernel cannot take it offline as a whole.",
    )
    MULTIZONE_RANGE = "multizone-range", "The range is not online memory of one zone."
    POISON_LOST = (
        "poison-lost",
        "The huge page had a bad page in it before, and the kernel lost it as a whole when it was freed.",
    )
    IN_FLIGHT = "in-flight", "A huge page is on its way out: it waits for the kernel's worker that frees it."
    MEMORY_PRESENT = "memory-present", "There is memory at that address already."
    DEVICE_EXISTS = "device-exists", "There is a virtio-mem device of that name."
    DEVICE_MEMORY = (
        "device-memory",
        "The memory belongs to a virtio-mem device: its driver alone takes it away, when less is requested.",
    )
    DEVICE_PLUGGED = "device-plugged", "The machine has memory of the virtio-mem device; request 0 first."
    BLOCK_ONLINE = "block-online", "The memory block is in use; it has to go offline first."
    VMEMMAP_POPULATE = (
        "vmemmap-populate",
        "New memory needs page structures that describe it, and there is no memory for them.",
    )
    UNMOVABLE_PAGE = "unmovable-page", "Memory of the kernel lies in the way, and it cannot be moved."
    ALL_FREE_PAGES_RESERVED = (
        "all-free-pages-reserved",
        "As many huge pages are promised as are free, so none of them can leave the pool.",
    )
    LIVELOCK = (
        "livelock",
        (
            "Pages come back as often as they are moved, or find no place; a kernel would try until a signal "
            "ends it."
        ),
    )
    MIGRATION_TARGET = (
        "migration-target",
        "What has to move found no free memory to move to, or is still on its way.",
    )
    PARSE = "parse", "The file does not take this text."
    GIGANTIC_PAGE = "gigantic-page", "A page of 1 GiB is in the way, or cannot do what was asked."
    READ_ONLY = "read-only", "The file can only be read."
    WRITE_ONLY = "write-only", "The file can only be written."
    IS_A_DIRECTORY = "is-a-directory", "The path is a folder."
    NOT_A_DIRECTORY = "not-a-directory", "Part of the path is a file and no folder."
    QUOTA = "quota", "The service keeps as many as it may; its settings say how many."
    CGROUP_LIMIT = "cgroup-limit", "A cgroup may have no more huge pages, or reserve no more of them."
    CGROUP_IN_USE = "cgroup-in-use", "More is charged to the cgroup than the new limit allows."
    CGROUP_POPULATED = "cgroup-populated", "Tasks or cgroups are in the cgroup, so it cannot be removed."
    CGROUP_INTERNAL = "cgroup-internal", "A cgroup that passes its controller on to others takes no tasks."
    CGROUP_EXISTS = "cgroup-exists", "There is a cgroup of that name."
    NO_SUCH_CGROUP = "no-such-cgroup", "There is no cgroup of that path."
    CONTROLLER_OFF = "controller-off", "The cgroup above does not pass the hugetlb controller on."
    NO_SUCH_TASK = "no-such-task", "There is no process of that number."
    MOUNT_FULL = "mount-full", "The hugetlbfs mount has as many pages as its size= allows."
    MOUNT_BUSY = "mount-busy", "Files of the hugetlbfs mount are in use."
    NOT_MOUNTED = "not-mounted", "There is no hugetlbfs mounted at that path."
    NO_SUCH_FILE = "no-such-file", "There is no file of that path."
    BEYOND_END_OF_FILE = "beyond-end-of-file", "The page touched lies behind the end of its file."
    TAKEN_BY_PARENT = (
        "taken-by-parent",
        "A parent took the pages that its child shared, as none were left to copy to.",
    )
    POISONED_PAGE = "poisoned-page", "The page turned bad."
    SEGMENT_EXISTS = "segment-exists", "The key has a System V segment already."
    NOT_IN_SHM_GROUP = "not-in-shm-group", "The process is not in the group of hugetlb_shm_group."
    OOM = (
        "oom",
        "Memory has run out: nothing can be reclaimed or swapped any more. A real kernel would kill a process.",
    )
    PINNED = (
        "pinned",
        "A program has pinned the memory, for a device for instance, so that it cannot be moved.",
    )
    NOT_MIGRATABLE = (
        "not-migratable",
        "The huge page cannot move before it is freed: a private copy on a mount with limits, or one moved before.",
    )
