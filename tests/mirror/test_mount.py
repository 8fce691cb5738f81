"""The mount: a shell reads and writes a host's files, and hears the kernel's errnos."""

import mmap
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hugepool.client import Client
from hugepool.mirror import mount as mount_module
from hugepool.mirror.mount import CannotMount, available
from tests.docs.server import free_port, running
from tests.mirror.helpers import (
    MEMORY,
    PATIENCE_SECONDS,
    POOL,
    SPEC,
    Lab,
    lab_on,
    mounting,
    run,
    shell,
    skip_without_fuse,
    types_of,
)

NR = f"{POOL}/nr_hugepages"
DT = {"directory": stat.S_IFDIR >> 12, "symlink": stat.S_IFLNK >> 12, "file": stat.S_IFREG >> 12}


@pytest.fixture(autouse=True)
def fuse() -> None:
    skip_without_fuse()


@pytest.fixture
def folder(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "mnt"
    place.mkdir()
    with mounting(lab, place):
        yield place


def test_files_read_as_the_service_shows_them(folder: Path, lab: Lab) -> None:
    for path in ("proc/meminfo", "proc/zoneinfo", "proc/vmstat", f"{MEMORY}/block_size_bytes", NR):
        assert (folder / path).read_text() == lab.read(path)
    assert (folder / MEMORY / "memory2/node0/memory2/state").read_text() == "online\n"


def test_readdir_tells_folders_links_and_files_apart(folder: Path) -> None:
    assert types_of(folder / "sys/kernel/mm/hugepages") == dict.fromkeys(
        (".", "..", "hugepages-2048kB", "hugepages-1048576kB"), DT["directory"]
    )
    block = types_of(folder / MEMORY / "memory2")
    assert (block["node0"], block["state"]) == (DT["symlink"], DT["file"])


def test_a_shell_hears_what_the_kernel_would_say(folder: Path, lab: Lab) -> None:
    def said(command: str) -> str:
        done = shell(command, folder)
        assert done.returncode != 0
        return done.stderr.rpartition(": ")[2].strip()

    lab.client.start_task(lab.name, {"kind": "kernel", "memory": "900M", "node": 0})
    before = lab.client.host(lab.name)
    assert said(f"echo abc > {NR}") == "Invalid argument"
    assert said(f"echo 99999999999999999999999 > {NR}") == "Numerical result out of range"
    assert said(f"echo 1 > {POOL}/free_hugepages") == "Permission denied"
    assert said("cat proc/sys/vm/drop_caches") == "Permission denied"
    assert said("echo 1 > proc/sys/vm/nosuch") == "Permission denied"
    assert said(f"rm {NR}") == "Operation not permitted"
    assert said(f"echo online > {MEMORY}/memory2/state") == "Invalid argument"
    assert lab.client.host(lab.name) == before
    assert said(f"echo offline > {MEMORY}/memory5/state") == "Device or resource busy"


def test_taking_memory_offline_without_frames_for_the_vmemmap_is_out_of_memory(
    folder: Path, lab: Lab
) -> None:
    lab.client.resize(lab.name, "2048kB", 300)
    block = next(b for b in lab.client.memory_blocks(lab.name) if b["hugepages"]["2048kB"] > 60)
    lab.client.set_fault(lab.name, "vmemmap-restore", {"times": -1})
    done = shell(f"echo offline > {MEMORY}/memory{block['block']}/state", folder)
    assert (done.returncode, "Cannot allocate memory" in done.stderr) == (1, True), done.stderr
    assert (folder / MEMORY / f"memory{block['block']}/state").read_text() == "online\n"


def test_a_pool_that_falls_short_is_a_write_that_succeeds(folder: Path, lab: Lab) -> None:
    done = shell(f"echo 100000 > {NR} && cat {NR}", folder)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) == lab.pool()["nr_hugepages"] < 1024


def test_one_write_is_one_change_and_truncating_is_none(folder: Path, lab: Lab) -> None:
    before = lab.revision
    assert shell(f": > {NR}; truncate -s 0 {NR}", folder).returncode == 0
    assert lab.revision == before
    assert shell(f"echo 11 > {NR}", folder).returncode == 0
    assert lab.revision == before + 1
    assert shell(f"echo 12 >> {NR}; printf 13 | tee {NR}", folder).returncode == 0
    assert (lab.revision, lab.pool()["nr_hugepages"]) == (before + 3, 13)


def test_a_change_over_http_is_seen_by_the_next_read(folder: Path, lab: Lab) -> None:
    for count in (3, 9, 2):
        lab.client.resize(lab.name, "2048kB", count)
        assert (folder / NR).read_text() == f"{count}\n"


def test_many_programs_read_and_write_at_once(folder: Path, lab: Lab) -> None:
    def work(number: int) -> int:
        if number % 4 == 0:
            (folder / NR).write_text(f"{number}\n")
        return len((folder / "proc/zoneinfo").read_text().splitlines())

    with ThreadPoolExecutor(8) as pool:
        lines = set(pool.map(work, range(64)))
    assert len(lines) == 1
    assert lab.client.audit(lab.name)["ok"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_mount_cleanly(number: signal.Signals, lab: Lab, tmp_path: Path) -> None:
    with mounting(lab, tmp_path) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, "Traceback" in said) == (0, False), said
        assert not os.path.ismount(tmp_path)


def test_umount_ends_it_too(lab: Lab, tmp_path: Path) -> None:
    with mounting(lab, tmp_path) as process:
        assert shell(f"umount {tmp_path}", Path("/")).returncode == 0
        assert process.wait(PATIENCE_SECONDS) == 0


def test_the_files_of_a_deleted_host_are_not_found_and_nothing_hangs(folder: Path, lab: Lab) -> None:
    assert (folder / NR).read_text() == "0\n"
    lab.client.delete_host(lab.name)
    with pytest.raises(FileNotFoundError):
        (folder / NR).read_text()


def test_a_service_that_dies_is_an_input_output_error_until_it_is_back(tmp_path: Path) -> None:
    scratch, folder, port = tmp_path / "service", tmp_path / "mnt", free_port()
    scratch.mkdir()
    folder.mkdir()
    with Client(f"http://127.0.0.1:{port}") as client:
        with running(scratch, port):
            lab = lab_on(client, SPEC)
            mount = mounting(lab, folder)
            mount.__enter__()
        try:
            done = shell(f"cat {NR}", folder)
            assert (done.returncode, "Input/output error" in done.stderr) == (1, True), done.stderr
            with running(scratch, port):
                assert shell(f"echo 3 > {NR} && cat {NR}", folder).stdout == "3\n"
        finally:
            mount.__exit__(None, None, None)


def test_a_mistake_is_reported_before_anything_is_mounted(lab: Lab, tmp_path: Path) -> None:
    cases = {
        ("nosuch", str(tmp_path)): (1, "no host 'nosuch'"),
        (lab.name, str(tmp_path / "nosuch")): (2, "does not exist"),
    }
    for arguments, (status, why) in cases.items():
        done = run(lab.client.url, "mount", *arguments)
        assert done.returncode == status
        assert why in " ".join(done.stderr.split())


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMount, match="fusermount3 is missing: apt-get install fuse3"):
        available()
    monkeypatch.setattr(mount_module, "DEVICE", tmp_path / "fuse")
    with pytest.raises(CannotMount, match="is missing: modprobe fuse"):
        available()


def test_statistics_are_those_of_a_file_system_without_blocks(folder: Path) -> None:
    found = os.statvfs(folder / NR)
    assert (found.f_blocks, found.f_files, found.f_bsize, found.f_namemax) == (0, 0, 4096, 255)


def test_direct_access_and_shared_mappings_are_refused(folder: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        os.open(folder / NR, os.O_RDONLY | os.O_DIRECT)
    with (folder / NR).open("rb") as file, pytest.raises(OSError, match="No such device"):
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def test_root_may_set_mode_owner_and_times(folder: Path) -> None:
    (folder / NR).chmod(0o640)
    os.chown(folder / NR, 0, 7)
    os.utime(folder / NR, (5, 6))
    found = (folder / NR).stat()
    assert (found.st_mode & 0o777, found.st_gid, found.st_atime, found.st_mtime) == (0o640, 7, 5, 6)
    with pytest.raises(PermissionError):
        (folder / "proc/sys/vm/nr_hugepages").chmod(0o666)


def test_who_is_not_root_reads_and_may_not_write(folder: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing")
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    assert shell(f"{nobody} cat {NR}", folder).stdout == "0\n"
    for refused in (
        f"echo 3 > {NR}",
        "cat proc/pagetypeinfo",
        f"test -w {NR} || echo Permission denied >&2; false",
    ):
        done = shell(f"{nobody} bash -c '{refused}'", folder)
        assert (done.returncode, "Permission denied" in done.stderr) == (1, True), (refused, done)


def test_a_folder_keeps_its_names_and_inodes(folder: Path) -> None:
    blocks = sorted(entry.name for entry in os.scandir(folder / MEMORY) if entry.is_dir())
    assert blocks == sorted(f"memory{number}" for number in range(16))
    inodes = {entry.name: entry.inode() for entry in os.scandir(folder / MEMORY)}
    assert {name: (folder / MEMORY / name).stat().st_ino for name in inodes} == inodes
