"""Mounts of a host and programs run inside it, for a test's time; and how a test is skipped where that cannot be."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugepool.harness import host as host_module
from hugepool.harness.child import ChildFailed
from hugepool.harness.host import SimulatedHost
from hugepool.harness.server import Server
from hugepool.mirror import mount as mount_module
from tests.mirror.helpers import POOL, skip_without_fuse

NR = f"{POOL}/nr_hugepages"
SPEC = {"cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "1G"}]}
PATIENCE_SECONDS = 60.0


@pytest.fixture
def fuse() -> None:
    skip_without_fuse()


@pytest.fixture
def other(hugepool_server: Server, tmp_path: Path) -> Iterator[SimulatedHost]:
    """A host that the test may end by itself."""
    host = SimulatedHost(hugepool_server, {"spec": SPEC}, tmp_path / "other", pytest.skip)
    yield host
    host.end()


def test_reading_and_writing_fail_as_on_a_real_machine(hugepool_host: SimulatedHost) -> None:
    before = hugepool_host.client.host(hugepool_host.name)
    for path, data, number in (
        (NR, "many", errno.EINVAL),
        (f"{POOL}/free_hugepages", "1", errno.EACCES),
        ("/proc/nosuch", "1", errno.ENOENT),
    ):
        with pytest.raises(OSError, match=r".+") as caught:
            hugepool_host.write(path, data)
        assert (caught.value.errno, caught.value.filename) == (number, path)
    with pytest.raises(FileNotFoundError):
        hugepool_host.read("/proc/nosuch")
    with pytest.raises(IsADirectoryError):
        hugepool_host.read("/proc")
    assert hugepool_host.client.host(hugepool_host.name) == before


def test_a_mount_is_there_until_the_host_ends(fuse: None, other: SimulatedHost) -> None:
    folder = other.mount()
    (folder / NR).write_text("8\n")
    assert other.pool()["nr_hugepages"] == 8
    second = other.mount()
    assert second != folder
    assert (second / NR).read_text() == "8\n"
    other.end()
    assert not os.path.ismount(folder)
    assert not os.path.ismount(second)
    assert str(folder) not in Path("/proc/mounts").read_text()
    other.end()  # once more is no error


def test_a_reset_mounts_again_and_nothing_old_is_read(fuse: None, hugepool_host: SimulatedHost) -> None:
    folder = hugepool_host.mount()
    (folder / NR).write_text("8\n")
    assert (folder / NR).read_text() == "8\n"
    hugepool_host.reset()
    hugepool_host.write(NR, "5")  # the same revision as before, and other bytes
    assert (folder / NR).read_text() == "5\n"


def test_a_mount_that_the_kernel_refuses_is_reported_with_what_it_said(
    fuse: None, hugepool_host: SimulatedHost, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    hugepool_host.client.delete_host(hugepool_host.name)
    with pytest.raises(ChildFailed, match=f"no host '{hugepool_host.name}'"):
        hugepool_host.mount(tmp_path / "full")
    assert not os.path.ismount(tmp_path / "full")


def test_a_mount_whose_process_is_killed_is_cleared_away(fuse: None, other: SimulatedHost) -> None:
    folder = other.mount()
    os.kill(other._mounts[0]._process.pid, signal.SIGKILL)
    other.end()
    assert str(folder) not in Path("/proc/mounts").read_text()


def test_a_program_runs_inside_with_its_output_and_status(fuse: None, hugepool_host: SimulatedHost) -> None:
    done = hugepool_host.exec(
        "bash", "-c", f"cat > /{NR}; cat /proc/sys/vm/nr_hugepages; echo no >&2; exit 7", stdin="6\n"
    )
    assert (done.args[0], done.returncode, done.stdout, done.stderr) == ("bash", 7, "6\n", "no\n")
    assert hugepool_host.pool()["nr_hugepages"] == 6


def test_a_program_that_does_not_end_is_ended_with_its_children(
    fuse: None, hugepool_host: SimulatedHost, tmp_path: Path
) -> None:
    reported = tmp_path / "pids"
    code = f"trap '' TERM; sleep 300 & echo $! $$ > {reported}; wait; wait; sleep 300"
    with pytest.raises(subprocess.TimeoutExpired):
        hugepool_host.exec("bash", "-c", code, timeout_seconds=5)
    pids = reported.read_text().split()
    assert len(pids) == 2
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_fuse_or_the_right_to_a_namespace_a_test_is_skipped_and_says_why(
    hugepool_host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = hugepool_host.client.host(hugepool_host.name)["revision"]
    with monkeypatch.context() as patch:
        patch.setattr(mount_module, "DEVICE", Path("/nosuch/fuse"))
        with pytest.raises(pytest.skip.Exception, match="is missing: modprobe fuse"):
            hugepool_host.mount()
        with pytest.raises(pytest.skip.Exception, match="is missing: modprobe fuse"):
            hugepool_host.exec("true")
    monkeypatch.setattr(host_module, "available", lambda: None)
    shut = Path(hugepool_host.export()) / "python"
    shut.write_text("#!/bin/sh\necho 'no user namespace: Operation not permitted' >&2\nexit 1\n")
    shut.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shut))
    with pytest.raises(pytest.skip.Exception, match="no user namespace"):
        hugepool_host.exec("true")
    assert hugepool_host.client.host(hugepool_host.name)["revision"] == revision
