"""A FUSE mount of a host: libfuse by way of mfusepy, which are needed here and nowhere else."""

import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from hugepool.mirror.operations import HostFiles
from hugepool.mirror.view import Mirror

DEVICE = Path("/dev/fuse")
HOST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ENDED_BY_A_SIGNAL = 8  # what libfuse's main function answers when SIGINT or SIGTERM ended it


class CannotMount(Exception):
    """What a mount needs is not there, or the kernel refuses it."""


def library() -> ModuleType:
    """The module mfusepy.

    Raises:
        CannotMount: it, libfuse or the device is missing; says what to install.
    """
    try:
        module = import_module("mfusepy")
    except ImportError:
        raise CannotMount("the Python package mfusepy is missing: pip install 'hugepool[mount]'") from None
    except OSError:
        raise CannotMount("libfuse is missing: apt-get install fuse3") from None
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        why = (
            "may not be opened"
            if DEVICE.exists()
            else "is missing: modprobe fuse, or pass it to the container"
        )
        raise CannotMount(f"{DEVICE} {why}")
    return module


def mount(mirror: Mirror, folder: Path, ready: Callable[[], object] = lambda: None) -> None:
    """Mount a host's files on a folder and serve them until the folder is unmounted, or SIGINT or SIGTERM comes.

    ``ready`` is called when programs can look.

    Raises:
        CannotMount: see ``library``, or libfuse refused (it says why on stderr).
    """
    fuse = library()
    if not HOST_NAME.fullmatch(mirror.host):
        raise CannotMount(
            f"{mirror.host!r} is not a host's name"
        )  # a comma would begin an option of the mount
    root = os.geteuid() == 0
    try:
        fuse.FUSE(
            HostFiles(mirror, ready),
            str(folder),
            foreground=True,
            fsname=f"hugepool:{mirror.host}",
            subtype="hugepool",
            default_permissions=True,  # the kernel checks modes, as for the real files
            allow_other=root,
            nosuid=True,  # whatever a service says
            nodev=True,
            noexec=True,
            direct_io=True,  # reads end where the text ends, and one write(2) comes as one
        )
    except RuntimeError as error:
        if error.args != (_ENDED_BY_A_SIGNAL,):
            raise CannotMount(f"libfuse could not mount on {folder}: code {error}") from None
