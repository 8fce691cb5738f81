"""A FUSE mount of a host: the device, mount(2) or fusermount3, and unmounting."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hugepool.mirror.operations import HostFiles, Tree
from hugepool.mirror.session import Fixed, Session

DEVICE = Path("/dev/fuse")
HELPER = "fusermount3"  # mounts for who may not
HOST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MS_NOSUID, MS_NODEV, MS_NOEXEC, MNT_DETACH = 2, 4, 8, 2
SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC  # whatever a service says
LIBC = ctypes.CDLL(None, use_errno=True)
ENDED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotMount(Exception):
    """What a mount needs is not there, or the kernel refuses it."""


def available() -> None:
    """Whether this process can mount.

    Raises:
        CannotMount: the device or, for who is not root, fusermount3 is missing; says what to do.
    """
    if not DEVICE.exists():
        raise CannotMount(f"{DEVICE} is missing: modprobe fuse, or pass it to the container")
    if os.geteuid() != 0 and shutil.which(HELPER) is None:
        raise CannotMount(f"{HELPER} is missing: apt-get install fuse3, or run it as root")
    if os.geteuid() == 0 and not os.access(DEVICE, os.R_OK | os.W_OK):
        raise CannotMount(f"{DEVICE} may not be opened")


def mount(
    tree: Tree,
    host: str,
    folder: Path,
    ready: Callable[[], object] = lambda: None,
    attached: Callable[[], object] = lambda: None,
    fixed: Fixed | None = None,
) -> None:
    """Mount a host's files on a folder and serve them until the folder is unmounted, or SIGINT or SIGTERM comes.

    For the main thread.  ``ready`` is called when programs can look, ``attached`` once before any thread runs;
    ``fixed``: see ``Session``.

    Raises:
        CannotMount: see ``available``, or the kernel or fusermount3 refuses.
    """
    available()
    if not HOST_NAME.fullmatch(host):
        raise CannotMount(f"{host!r} is not a host's name")  # a comma would begin an option of the mount
    device = _attach(host, folder)
    attached()
    session = Session(device, HostFiles(tree), fixed)
    with _ending(session):
        try:
            session.begin()
            ready()
            session.ended.wait()
        except OSError as error:
            raise CannotMount(f"cannot mount on {folder}: {error.strerror}") from None
        finally:
            detach(folder)


@contextmanager
def _ending(session: Session) -> Iterator[None]:
    """A signal ends the session; afterwards it does what it did before."""

    def end(*_: object) -> None:
        session.ended.set()

    before = {number: signal.signal(number, end) for number in ENDED_BY}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _attach(host: str, folder: Path) -> int:
    """Mount, and give back the open device."""
    if os.geteuid() != 0:
        return _attach_by_helper(host, folder)
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},allow_other"
    source, kind = f"hugepool:{host}".encode(), b"fuse.hugepool"
    if LIBC.mount(source, os.fsencode(folder), kind, ctypes.c_ulong(SAFE), options.encode()) != 0:
        why = os.strerror(ctypes.get_errno())
        os.close(device)
        raise CannotMount(f"cannot mount on {folder}: {why}")
    return device


def _attach_by_helper(host: str, folder: Path) -> int:
    """fusermount3 sends the open device through a socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    options = f"fsname=hugepool:{host},subtype=hugepool,nosuid,nodev,noexec"
    with ours, theirs:
        done = subprocess.run(  # noqa: S603 - found by PATH
            [HELPER, "-o", options, "--", str(folder)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CannotMount(f"cannot mount on {folder}: {done.stderr.strip()}")
        _, descriptors, *_ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def detach(folder: Path) -> None:
    """Unmount, if it is not done yet.  Who still uses the files gets ENOTCONN once this process has ended."""
    if os.geteuid() == 0:
        LIBC.umount2(os.fsencode(folder), MNT_DETACH)
    else:
        subprocess.run([HELPER, "-u", "-q", "-z", "--", str(folder)], check=False)  # noqa: S603 - found by PATH
