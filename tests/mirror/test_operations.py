"""What the kernel asks of the mount, asked without a kernel: the operations against a real service."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hugepool.client import Client, Refused, Unreachable
from hugepool.mirror.operations import Changes, HostFiles, may
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
    content = files.read(handle, 1 << 20, 0)
    files.release(handle)
    return content.decode()


def write(files: HostFiles, path: str, data: bytes, offset: int = 0, flags: int = os.O_WRONLY) -> int:
    handle = files.open(path, flags)
    try:
        return files.write(handle, data, offset)
    finally:
        files.release(handle)


def test_files_folders_and_links_have_their_types_modes_and_sizes(files: HostFiles) -> None:
    modes = {
        "/": "drwxr-xr-x",
        NR: "-rw-r--r--",
        f"/{POOL}/free_hugepages": "-r--r--r--",
        "/proc/sys/vm/drop_caches": "--w-------",
        f"/{MEMORY}/memory2/node0": "lrwxrwxrwx",
    }
    assert {path: stat.filemode(files.attributes(path).mode) for path in modes} == modes
    assert files.attributes(NR).size is None  # until it is asked for
    assert files.attributes(f"/{MEMORY}/memory2/node0").size == len("../../node/node0")
    assert files.attributes(NR).inode == files.attributes(NR).inode != files.attributes("/proc/meminfo").inode
    assert files.link(f"/{MEMORY}/memory2/node0") == "../../node/node0"
    assert failing(files.link, NR) == "EINVAL"


def test_a_folder_tells_the_type_of_each_name(files: HostFiles) -> None:
    found = {name: kind for name, _, kind in files.entries(f"/{MEMORY}/memory2")}
    assert found["node0"] == stat.S_IFLNK
    assert found["state"] == stat.S_IFREG
    assert failing(files.entries, NR) == "ENOTDIR"


def test_a_write_is_one_change_and_reads_see_it_at_once(files: HostFiles, lab: Lab) -> None:
    before = lab.revision
    assert text(files, NR) == "0\n"
    assert write(files, NR, b"20\n") == 3
    assert text(files, NR) == "20\n"
    assert lab.revision == before + 1


def test_a_change_by_somebody_else_is_seen_at_once(files: HostFiles, lab: Lab) -> None:
    assert text(files, NR) == "0\n"
    lab.client.resize(lab.name, "2048kB", 7)
    assert text(files, NR) == "7\n"


def test_a_text_is_made_when_it_is_read_from_its_beginning(files: HostFiles, lab: Lab) -> None:
    handle = files.open("/proc/meminfo", os.O_RDONLY)
    first = files.read(handle, 100, 0)
    lab.client.resize(lab.name, "2048kB", 7)
    rest = files.read(handle, 1 << 20, 100)
    again = files.read(handle, 1 << 20, 0)
    assert b"HugePages_Total:       0\n" in first + rest
    assert b"HugePages_Total:       7\n" in again


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        (NR, b"abc", "EINVAL"),
        (NR, b"99999999999999999999999", "ERANGE"),
        (NR, b"1" * 5000, "ERANGE"),
        (NR, b"5" + b" " * 5000, "EINVAL"),
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
    assert failing(write, files, path, data) == expected
    assert lab.client.host(lab.name) == before


def test_a_pool_that_falls_short_is_a_write_that_succeeds(files: HostFiles) -> None:
    assert write(files, NR, b"100000\n") == 7
    assert 0 < int(text(files, NR)) < 1000


def test_taking_memory_offline_fails_with_busy_or_no_memory(files: HostFiles, lab: Lab) -> None:
    block = next(b for b in lab.client.memory_blocks(lab.name) if b["zone"] == "DMA32" and b["block"] > 3)
    lab.client.start_task(lab.name, {"kind": "kernel", "memory": "900M", "node": 0})
    state = f"/{MEMORY}/memory{block['block']}/state"
    assert failing(write, files, state, b"offline") == "EBUSY"
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


def test_direct_access_is_refused_as_in_sysfs(files: HostFiles) -> None:
    assert failing(files.open, NR, os.O_RDONLY | os.O_DIRECT) == "EINVAL"


def test_a_sysctl_takes_nothing_behind_its_first_byte_and_sysfs_takes_all(files: HostFiles, lab: Lab) -> None:
    sysctl = "/proc/sys/vm/nr_hugepages"
    assert write(files, sysctl, b"5\n") == 2
    assert write(files, sysctl, b"7\n", offset=2) == 2
    assert write(files, "/proc/sys/vm/min_free_kbytes", b"abc", offset=1) == 3
    assert lab.pool()["nr_hugepages"] == 5
    assert write(files, NR, b"7\n", offset=2) == 2
    assert lab.pool()["nr_hugepages"] == 7


def test_a_write_that_is_ignored_sets_a_pool_to_what_was_asked_before(files: HostFiles, lab: Lab) -> None:
    sysctl = "/proc/sys/vm/nr_hugepages"
    assert write(files, sysctl, b"8\n") == 2
    lab.client.set_fault(lab.name, "vmemmap-restore", {"times": -1})
    assert write(files, sysctl, b"0\n") == 2
    assert (lab.pool()["nr_hugepages"], lab.pool()["surplus_hugepages"]) == (8, 8)
    lab.client.clear_fault(lab.name, "vmemmap-restore")
    before = lab.revision
    assert write(files, sysctl, b"3\n", offset=1) == 2
    assert lab.revision == before + 1
    assert lab.pool()["max_huge_pages"] == 0


def test_a_sysctl_takes_one_number_and_says_so(files: HostFiles, lab: Lab) -> None:
    assert write(files, "/proc/sys/vm/nr_hugepages", b"5 6\n") == 2
    assert lab.pool()["nr_hugepages"] == 5


def test_appending_begins_at_the_beginning_as_in_files_of_the_kernel(files: HostFiles, lab: Lab) -> None:
    handle = files.open("/proc/sys/vm/nr_hugepages", os.O_WRONLY | os.O_APPEND)
    assert files.write(handle, b"5\n", 1 << 24) == 2
    assert files.write(handle, b"9\n", 1 << 24) == 2
    assert lab.pool()["nr_hugepages"] == 5


def test_mode_owner_and_times_can_be_set_in_sysfs_and_sysctls_keep_theirs(files: HostFiles) -> None:
    files.change(NR, Changes(mode=0o660, gid=7, mtime_ns=5))
    found = files.attributes(NR)
    assert (stat.filemode(found.mode), found.gid, found.times_ns[1]) == ("-rw-rw----", 7, 5)
    sysctl = "/proc/sys/vm/nr_hugepages"
    before = files.attributes(sysctl)
    assert failing(files.change, sysctl, Changes(mode=0o666)) == "EPERM"
    assert files.attributes(sysctl) == before
    assert files.change(sysctl, Changes(atime_ns=9)).times_ns[0] == 9


def test_modes_are_obeyed_and_root_may_all(files: HostFiles) -> None:
    files.change(NR, Changes(uid=0, gid=7))
    found = files.attributes(NR)
    asked = {(0, 0): os.W_OK, (5, 7): os.R_OK, (5, 5): os.R_OK}
    assert all(may(found, uid, gid, wanted) for (uid, gid), wanted in asked.items())
    assert not may(found, 5, 7, os.W_OK)


def test_the_files_of_a_deleted_host_are_gone(files: HostFiles, lab: Lab) -> None:
    assert text(files, NR) == "0\n"
    handle = files.open(NR, os.O_RDWR)
    lab.client.delete_host(lab.name)
    assert failing(files.read, handle, 100, 0) == "ENOENT"
    assert failing(files.write, handle, b"1", 0) == "ENOENT"
    assert failing(files.entries, "/sys/kernel") == "ENOENT"


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
        for name, *_ in files.entries(f"/{POOL}"):
            files.attributes(f"/{POOL}/{name}")
    assert asked == [f"/{POOL}"]


def test_a_service_that_is_gone_is_an_input_output_error_and_one_that_is_back_answers(tmp_path: Path) -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}") as client:
        files = HostFiles(Mirror(client, "lab"))
        with running(tmp_path, port):
            client.create_host("lab", SPEC)
            assert text(files, NR) == "0\n"
            handle = files.open(NR, os.O_RDWR)
        assert failing(files.read, handle, 100, 0) == "EIO"
        assert failing(files.write, handle, b"3", 0) == "EIO"
        with pytest.raises(Unreachable):
            client.host("lab")
        with running(tmp_path, port):
            assert files.write(handle, b"3", 0) == 1
            assert text(files, NR) == "3\n"
