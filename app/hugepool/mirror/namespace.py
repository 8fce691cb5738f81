"""A mount namespace for one program, in which a host's files lie over those of the machine.

Mounts of this process are cut off from everybody else's first; what is laid over after that is seen by this process
and its children only, and is gone with them, however they end.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hugepool.mirror.machine import ABSORBED, HOST_SYSCTLS

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MNT_DETACH = 0x2
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 0x400, 0x800, 0x200000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
# Folders and files of a host that are laid over those of the machine, where the host has them.
FOLDERS = (
    "sys/devices/system/node",
    "sys/devices/system/memory",
    "sys/kernel/mm/hugepages",
    "sys/kernel/mm/transparent_hugepage",
    "sys/bus/memory",
    "sys/bus/node",
    "proc/sys",
)
FILES = tuple(
    f"proc/{name}" for name in ("meminfo", "buddyinfo", "zoneinfo", "vmstat", "pagetypeinfo", "cmdline")
)
ONE_BY_ONE = tuple(f"/{file}" for file in FILES) + ABSORBED
NO_NAMESPACE = ("no mount namespace: ", "no user namespace: ")  # how a refusal begins
LIBC = ctypes.CDLL(None, use_errno=True)
PROTECTED = Path("/sys")  # what a host has no file for belongs to the machine: read-only
LOCKED = {  # flags of a mount that a user namespace may not take away: as statvfs(3) has them, as mount(2) has them
    os.ST_NOSUID: 2,
    os.ST_NODEV: 4,
    os.ST_NOEXEC: 8,
    os.ST_NOATIME: MS_NOATIME,
    os.ST_NODIRATIME: MS_NODIRATIME,
    os.ST_RELATIME: MS_RELATIME,
}
FIXED = (Path("/proc"), Path("/sys"), Path("/"))  # cannot be rebuilt: what they hold changes by itself


class CannotCover(Exception):
    """The kernel refuses a namespace or a mount, or there is no place to lay a file over."""


def separate() -> None:
    """Give this process a mount namespace, from which no mount spreads; who is not root gets a user namespace with it.

    Raises:
        CannotCover: the kernel refuses it.
    """
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER
    if LIBC.unshare(flags) != 0:
        why = os.strerror(ctypes.get_errno())
        without = "" if uid == 0 else "this machine gives no user namespace, so "
        raise CannotCover(
            f"{NO_NAMESPACE[0]}{why}; {without}run it as root, in a container with CAP_SYS_ADMIN"
        )
    if uid != 0:
        _be_root_inside(uid, gid)
    _mount(None, Path("/"), None, MS_REC | MS_PRIVATE)


def step_aside() -> None:
    """Another mount namespace, in which nothing of what is mounted later in the one so far is seen."""
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise CannotCover(f"{NO_NAMESPACE[0]}{os.strerror(ctypes.get_errno())}")


def _be_root_inside(uid: int, gid: int) -> None:
    """Map the user to root of the new user namespace: files that it makes outside are still the user's."""
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as error:
        raise CannotCover(f"{NO_NAMESPACE[1]}{error.strerror}; run it as root") from None


def cover(root: Path) -> list[str]:
    """Lay the files of a host below ``root`` over those of the machine; all else of ``/sys`` becomes read-only.

    Returns:
        What could not be laid over because the machine has no such file and no place for it.
    Raises:
        CannotCover: the kernel refuses a mount.
    """
    kept = os.statvfs(PROTECTED).f_flag
    flags = sum(flag for seen, flag in LOCKED.items() if kept & seen)
    _mount(PROTECTED, PROTECTED, None, MS_BIND | MS_REC)
    _mount(None, PROTECTED, None, MS_BIND | MS_REMOUNT | MS_RDONLY | flags)
    left_out: list[str] = []
    rebuilt: set[Path] = set()
    for name in _names(root):
        target = Path("/", name)
        if not target.exists() and target.parent in FIXED:
            left_out.append(str(target))
            continue
        lay_over(root / name, target, rebuilt)
    return left_out


def _names(root: Path) -> Iterator[str]:
    list((root / HOST_SYSCTLS[1:]).iterdir())  # a listing that is refused is refused before a program runs
    yield from (name for name in FOLDERS if (root / name).is_dir())
    yield from (name for name in FILES if (root / name).is_file())
    yield from (path[1:] for path in ABSORBED if Path(path).exists())


def lay_over(source: Path, target: Path, rebuilt: set[Path]) -> None:
    """Bind ``source`` on ``target``; a target that is missing is made in a copy of its folder.

    ``rebuilt``: the folders that were copied; a new one is added.

    Raises:
        CannotCover: the kernel refuses a mount.
    """
    if not target.exists():
        if not target.parent.is_dir():
            raise CannotCover(f"{target.parent} is missing, so there is no place for {target.name}")
        if target.parent not in rebuilt:
            rebuild(target.parent)
            rebuilt.add(target.parent)
        _make_like(source, target)
    _mount(source, target, None, MS_BIND)


def rebuild(folder: Path) -> None:
    """Lay a folder in memory over ``folder`` that holds the same things, bound, so that others can be added.

    sysfs and procfs let nobody make files.
    """
    aside = Path(tempfile.mkdtemp(prefix="hugepool-"))
    _mount(folder, aside, None, MS_BIND | MS_REC)
    _mount(Path("tmpfs"), folder, "tmpfs", 0)
    for kept in sorted(aside.iterdir()):
        copy = folder / kept.name
        if kept.is_symlink():
            copy.symlink_to(kept.readlink())
            continue
        _make_like(kept, copy)
        _mount(kept, copy, None, MS_BIND | MS_REC)
    shutil.copystat(aside, folder)
    if LIBC.umount2(os.fsencode(aside), MNT_DETACH) != 0:  # what was bound from it stays
        raise CannotCover(f"cannot unmount {aside}: {os.strerror(ctypes.get_errno())}")
    aside.rmdir()


def _make_like(source: Path, place: Path) -> None:
    if source.is_dir():
        place.mkdir()
    else:
        place.touch()


def _mount(source: Path | None, target: Path, kind: str | None, flags: int) -> None:
    what = None if source is None else os.fsencode(source)
    fstype = None if kind is None else kind.encode()
    if LIBC.mount(what, os.fsencode(target), fstype, ctypes.c_ulong(flags), None) != 0:
        why = os.strerror(ctypes.get_errno())
        raise CannotCover(f"cannot mount on {target}: {why}")
