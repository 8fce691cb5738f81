"""The messages between a Linux kernel and a FUSE file system: numbers, and the layout of structures.

Source: include/uapi/linux/fuse.h, protocol 7.31 (Linux 5.4).  A kernel that speaks a newer one keeps to 7.31 when it is
asked to, so that structures are as long as here.
"""

from enum import IntEnum, IntFlag
from struct import Struct

MAJOR, MINOR = 7, 31
ROOT_ID = 1

IN_HEADER = Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions, padding
OUT_HEADER = Struct("=IiQ")  # length, -errno or notification, unique
INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_OUT = Struct("=IIIIHHIIHHI28x")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages
ATTRIBUTES = Struct("=6Q10I")
# ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags
ENTRY_OUT = Struct(
    "=QQQQII"
)  # node, generation, seconds that name and attributes are good for; then attributes
ATTRIBUTES_OUT = Struct("=QII")  # seconds that they are good for; then attributes
SETATTR_IN = Struct("=IIQQQQQQIIIIIIII")
# valid, padding, handle, size, lock owner, atime, mtime, ctime, their nanoseconds, mode, unused, uid, gid, unused
OPEN_IN = Struct("=II")  # flags
OPEN_OUT = Struct("=QII")  # handle, flags
READ_IN = Struct("=QQIIQII")  # handle, offset, size, read flags, lock owner, file flags
WRITE_IN = Struct("=QQIIQII")  # handle, offset, size, write flags, lock owner, file flags
WRITE_OUT = Struct("=II")
RELEASE_IN = Struct("=Q")
ACCESS_IN = Struct("=I")
STATFS_OUT = Struct("=5Q4I24x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize
DIRENT = Struct("=QQII")  # inode, offset of the next, length of the name, type
FORGET_IN = Struct("=Q")
BATCH_FORGET_IN = Struct("=II")
FORGET_ONE = Struct("=QQ")  # node, lookups
INVALIDATE_INODE = Struct("=Qqq")  # node, offset, length


class Op(IntEnum):
    """What the kernel asks for, as far as this file system answers; the rest is ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44
    RENAME2 = 45


class Feature(IntFlag):
    """What the kernel offers at the beginning, and this file system takes."""

    ASYNC_READ = 1 << 0
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22


DIRECT_IO = 1 << 0  # of an opened file: read(2) and write(2) come as they are
READ_HAS_OWNER = 1 << 1  # of a read: it is of read(2), not of the page cache
NOTIFY_INVALIDATE_INODE = 2


class Valid(IntFlag):
    """Which attributes a SETATTR sets."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
