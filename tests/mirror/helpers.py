"""What tests of the mirror share: hosts on a real service, mounts of them, and whether this machine has FUSE."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import cast

import pytest

from hugepool.client import Client, Json
from hugepool.mirror.mount import CannotMount, available

POOL = "sys/kernel/mm/hugepages/hugepages-2048kB"
MEMORY = "sys/devices/system/memory"
SPEC: Json = {
    "kernel": "6.1",
    "cmdline": "hugetlb_free_vmemmap=on",
    "nodes": [{"memory": "1G", "cpus": 2}, {"memory": "1G", "cpus": 2}],
}
_names = count(1)
PATIENCE_SECONDS = 60


@dataclass
class Lab:
    """A host of a running service."""

    client: Client
    name: str

    @property
    def revision(self) -> int:
        return int(self.client.host(self.name)["revision"])

    def pool(self) -> Json:
        return cast("Json", self.client.hugepages(self.name, "2048kB"))

    def read(self, path: str) -> str:
        return self.client.read_file(self.name, path)


def lab_on(client: Client, spec: Json = SPEC) -> Lab:
    """A new host."""
    name = f"lab{next(_names)}-{os.getpid()}"
    client.create_host(name, spec)
    return Lab(client, name)


def why_no_fuse() -> str | None:
    """What keeps this machine from mounting, in words."""
    try:
        available()
    except CannotMount as error:
        return str(error)
    return None if os.geteuid() == 0 else "mounting a file system takes root here"


def skip_without_fuse() -> None:
    """Skip the test on a machine that cannot mount."""
    why = why_no_fuse()
    if why:
        pytest.skip(why)


def hugepool(url: str, *arguments: str) -> Sequence[str]:
    """The command line of a hugepool command against a service."""
    command, *rest = arguments
    return [sys.executable, "-m", "hugepool", command, "--url", url, *rest]


def run(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a hugepool command to its end."""
    return subprocess.run(
        hugepool(url, *arguments),
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@contextmanager
def mounting(lab: Lab, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A running ``hugepool mount``; ended, by its id, with the block."""
    process = subprocess.Popen(
        hugepool(lab.client.url, "mount", lab.name, str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "is mounted" in line, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert not os.path.ismount(folder)


class Dirent(ctypes.Structure):
    """struct dirent of glibc on 64 bits."""

    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("off", ctypes.c_int64),
        ("reclen", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


def types_of(folder: Path) -> dict[str, int]:
    """``d_type`` of every name, as readdir(3) gives it."""
    libc = ctypes.CDLL(None)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.POINTER(Dirent)
    handle = ctypes.c_void_p(libc.opendir(os.fsencode(folder)))
    found = {}
    while entry := libc.readdir(handle):
        found[entry.contents.name.decode()] = entry.contents.type
    libc.closedir(handle)
    return found


def shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash in a folder."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
