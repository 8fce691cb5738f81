"""A mount namespace for one program alone, in which a host's files lie over those of the machine.

Mounts of this process are cut off from everybody else's first; what is laid over after that is seen by this process
and its children only, and is gone with them, however they end.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNS = 0x00020000
MNT_DETACH = 0x2
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
# Folders and files of a host that are laid over those of the machine, where the host has them.
FOLDERS = ("sys/devices/system/node", "sys/devices/system/memory", "sys/kernel/mm/hugepages")
PROC_FILES = ("meminfo", "buddyinfo", "zoneinfo", "vmstat", "pagetypeinfo", "cmdline")
SYSCTLS = "proc/sys/vm"
MAX_SYSCTLS = 200  # each takes a mount; kernels have about 50
LIBC = ctypes.CDLL(None, use_errno=True)
PROTECTED = (Path("/proc/sys"), Path("/sys"))  # what a host has no file for belongs to the machine: read-only
FIXED = (Path("/proc"), Path("/sys"), Path("/"))  # cannot be rebuilt: what they hold changes by itself


class CannotCover(Exception):
    """The kernel refuses a namespace or a mount, or there is no place to lay a file over."""


def separate() -> None:
    """Give this process its own mount namespace, from which no mount spreads.

    Raises:
        CannotCover: not allowed; it takes root (CAP_SYS_ADMIN).
    """
    if LIBC.unshare(CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise CannotCover(f"no mount namespace: {why}; run it as root, in a container with CAP_SYS_ADMIN")
    _mount(None, Path("/"), None, MS_REC | MS_PRIVATE)


def cover(root: Path) -> list[str]:
    """Lay the files of a host below ``root`` over those of the machine, which cannot be written any more.

    Returns:
        What could not be laid over because the machine has no such file and no place for it.
    Raises:
        CannotCover: the kernel refuses a mount, or the host has more sysctls than any kernel.
    """
    for folder in PROTECTED:
        _mount(folder, folder, None, MS_BIND | MS_REC)
        _mount(None, folder, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
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
    yield from (name for name in FOLDERS if (root / name).is_dir())
    yield from (f"proc/{name}" for name in PROC_FILES if (root / "proc" / name).is_file())
    sysctls = sorted(file.name for file in (root / SYSCTLS).iterdir())
    if len(sysctls) > MAX_SYSCTLS:
        raise CannotCover(f"the host has {len(sysctls)} files in /{SYSCTLS}, more than {MAX_SYSCTLS}")
    yield from (f"{SYSCTLS}/{name}" for name in sysctls)
    enabled = "sys/kernel/mm/transparent_hugepage/enabled"
    if (root / enabled).is_file():
        yield enabled


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
