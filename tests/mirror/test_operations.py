"""What the kernel asks of the mount, asked without a kernel: the operations against a real service."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hugepool.client import Client, Refused, Unreachable
from hugepool.mirror.operations import HostFiles
from hugepool.mirror.view import Mirror
from tests.docs.server import free_port, running
from tests.mirror.helpers import MEMORY, POOL, SPEC, Lab

NR = f"/{POOL}/nr_hugepages"
STATE = f"/{MEMORY}/memory2/state"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def files(lab: Lab) -> HostFiles:
    return HostFiles(Mirror(lab.client, lab.name))


def failing(call: Callable[..., Any], *args: Any) -> str:
    """The errno that a call raises, by name."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call(*args)
    return errno.errorcode[caught.value.errno or 0]


def text(files: HostFiles, path: str) -> str:
    handle = files.open(path, os.O_RDONLY)
    content = files.read(path, 1 << 20, 0, handle)
    files.release(path, handle)
    return content.decode()


def test_files_folders_and_links_have_their_types_modes_and_sizes(files: HostFiles) -> None:
    modes = {
        "/": "drwxr-xr-x",
        NR: "-rw-r--r--",
        f"/{POOL}/free_hugepages": "-r--r--r--",
        "/proc/sys/vm/drop_caches": "--w-------",
        f"/{MEMORY}/memory2/node0": "lrwxrwxrwx",
    }
    assert {path: stat.filemode(files.getattr(path)["st_mode"]) for path in modes} == modes
    assert files.getattr(NR)["st_size"] == 4096
    assert files.getattr("/proc/meminfo")["st_size"] == 0
    assert files.readlink(f"/{MEMORY}/memory2/node0") == "../../node/node0"
    assert failing(files.readlink, NR) == "EINVAL"


def test_a_folder_tells_the_type_of_each_name(files: HostFiles) -> None:
    found = {name: kind for name, kind, _ in files.readdir(f"/{MEMORY}/memory2", 0)}
    assert found["."] == found[".."] == stat.S_IFDIR
    assert found["node0"] == stat.S_IFLNK
    assert found["state"] == stat.S_IFREG
    assert failing(files.readdir, NR, 0) == "ENOTDIR"


def test_a_write_is_one_change_and_reads_see_it_at_once(files: HostFiles, lab: Lab) -> None:
    before = lab.revision
    assert text(files, NR) == "0\n"
    assert files.truncate(NR, 0) == 0
    assert files.write(NR, b"20\n", 0, 1) == 3
    assert text(files, NR) == "20\n"
    assert lab.revision == before + 1


def test_a_change_by_somebody_else_is_seen_at_once(files: HostFiles, lab: Lab) -> None:
    assert text(files, NR) == "0\n"
    lab.client.resize(lab.name, "2048kB", 7)
    assert text(files, NR) == "7\n"


def test_a_text_is_made_when_it_is_read_from_its_beginning(files: HostFiles, lab: Lab) -> None:
    handle = files.open("/proc/meminfo", os.O_RDONLY)
    first = files.read("/proc/meminfo", 100, 0, handle)
    lab.client.resize(lab.name, "2048kB", 7)
    rest = files.read("/proc/meminfo", 1 << 20, 100, handle)
    again = files.read("/proc/meminfo", 1 << 20, 0, handle)
    assert b"HugePages_Total:       0\n" in first + rest
    assert b"HugePages_Total:       7\n" in again


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        (NR, b"abc", "EINVAL"),
        (NR, b"99999999999999999999999", "ERANGE"),
        (NR, b"1" * 5000, "ERANGE"),
        (STATE, b"away", "EINVAL"),
        (STATE, b"online", "EINVAL"),
        ("/proc/sys/vm/nr_hugepages", b"-", "EINVAL"),
        ("/proc/sys/vm/nosuch", b"1", "ENOENT"),
    ],
)
def test_a_refused_write_is_the_errno_of_the_kernel_and_changes_nothing(
    files: HostFiles, lab: Lab, path: str, data: bytes, expected: str
) -> None:
    before = lab.client.host(lab.name)
    assert failing(files.write, path, data, 0, 1) == expected
    assert lab.client.host(lab.name) == before


def test_a_pool_that_falls_short_is_a_write_that_succeeds(files: HostFiles) -> None:
    assert files.write(NR, b"100000\n", 0, 1) == 7
    assert 0 < int(text(files, NR)) < 1000


def test_taking_memory_offline_fails_with_busy_or_no_memory(files: HostFiles, lab: Lab) -> None:
    block = next(b for b in lab.client.memory_blocks(lab.name) if b["zone"] == "DMA32" and b["block"] > 3)
    lab.client.start_task(lab.name, {"kind": "kernel", "memory": "900M", "node": 0})
    state = f"/{MEMORY}/memory{block['block']}/state"
    assert failing(files.write, state, b"offline", 0, 1) == "EBUSY"
    assert text(files, state) == "online\n"


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        (f"/{POOL}/free_hugepages", os.O_WRONLY),
        (f"/{POOL}/free_hugepages", os.O_RDWR),
        ("/proc/sys/vm/drop_caches", os.O_RDONLY),
        ("/proc/meminfo", os.O_WRONLY | os.O_TRUNC),
    ],
)
def test_an_access_that_no_mode_bit_has_is_refused_as_in_sysfs(
    files: HostFiles, path: str, flags: int
) -> None:
    assert failing(files.open, path, flags) == "EACCES"


def test_nothing_can_be_made_removed_or_renamed(files: HostFiles) -> None:
    assert failing(files.create, "/sys/new", 0o644) == "EACCES"
    for operation in (files.unlink, files.mkdir, files.rename, files.chmod):
        assert failing(operation, NR, 0) == "EPERM"


def test_what_is_not_there_is_not_found(files: HostFiles) -> None:
    assert failing(files.getattr, "/sys/nosuch") == "ENOENT"
    assert failing(files.readlink, "/sys/nosuch") == "ENOENT"
    assert failing(files.truncate, "/sys/nosuch", 0) == "ENOENT"
    assert failing(files.open, f"/{MEMORY}/memory9999/state", os.O_RDONLY) == "ENOENT"
    assert failing(files.getattr, "/proc/meminfo/x") == "ENOTDIR"


def test_the_files_of_a_deleted_host_are_gone(files: HostFiles, lab: Lab) -> None:
    assert text(files, NR) == "0\n"
    lab.client.delete_host(lab.name)
    assert failing(files.read, NR, 100, 0, 77) == "ENOENT"
    assert failing(files.write, NR, b"1", 0, 77) == "ENOENT"
    assert failing(files.readdir, "/sys/kernel", 0) == "ENOENT"


def test_what_folders_hold_is_asked_for_again_after_a_second_or_a_write(lab: Lab) -> None:
    clock = Clock()
    mirror = Mirror(lab.client, lab.name, clock)
    assert NR.rpartition("/")[2] in mirror.entries(f"/{POOL}")
    lab.client.delete_host(lab.name)
    clock.seconds = 0.9
    assert mirror.entries(f"/{POOL}")
    clock.seconds = 1.1
    with pytest.raises(Refused):
        mirror.entries(f"/{POOL}")
    with pytest.raises(NotADirectoryError):
        Mirror(lab.client, lab_again(lab)).entries(NR)


def lab_again(lab: Lab) -> str:
    lab.client.create_host(lab.name, SPEC)
    return lab.name


def test_a_walk_asks_for_each_folder_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    look = lab.client.look

    def counting(host: str, path: str, **more: Any) -> Any:
        asked.append(path)
        return look(host, path, **more)

    monkeypatch.setattr(lab.client, "look", counting)
    files = HostFiles(Mirror(lab.client, lab.name, Clock()))
    for _ in range(3):
        for name, _kind, _ in files.readdir(f"/{POOL}", 0):
            files.getattr(f"/{POOL}/{name}" if not name.startswith(".") else f"/{POOL}")
    assert sorted(asked) == ["/sys/kernel/mm/hugepages", f"/{POOL}"]


def test_a_service_that_is_gone_is_an_input_output_error_and_one_that_is_back_answers(tmp_path: Path) -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}") as client:
        files = HostFiles(Mirror(client, "lab"))
        with running(tmp_path, port):
            client.create_host("lab", SPEC)
            assert text(files, NR) == "0\n"
        assert failing(files.read, NR, 100, 0, 5) == "EIO"
        assert failing(files.write, NR, b"3", 0, 5) == "EIO"
        with pytest.raises(Unreachable):
            client.host("lab")
        with running(tmp_path, port):
            assert files.write(NR, b"3", 0, 5) == 1
            assert text(files, NR) == "3\n"
