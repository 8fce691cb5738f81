"""Archives of /proc and /sys: what is taken, and what a hostile one cannot do."""

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from hugepool.fs.archive import Limits, make_archive, read_archive
from hugepool.fs.collect import collect
from hugepool.fs.paths import is_link, relevant
from hugepool.mm.machine.errors import BadInput, TooLarge

FILES = {
    "/proc/meminfo": "MemTotal: 1 kB\n",
    "/proc/sys/vm/nr_hugepages": "0\n",
    "/sys/devices/system/memory/memory0/state": "online\n",
    "/sys/devices/system/node/node0/memory0": "",
}


Member = tuple[tarfile.TarInfo, bytes]
NOT_FILES = [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]


def member(name: str, content: bytes = b"0\n", kind: bytes = tarfile.REGTYPE, target: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def packed(members: Iterable[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.size else None)
    return out.getvalue()


def test_an_archive_gives_back_what_was_packed_and_is_the_same_bytes_every_time() -> None:
    data = make_archive(FILES)
    assert read_archive(data) == FILES
    assert read_archive(io.BytesIO(data)) == FILES
    assert make_archive(dict(reversed(FILES.items()))) == data


@pytest.mark.parametrize("root", ["", "/", "./", "prod-17/", "./prod-17/"])
def test_members_may_begin_at_any_root(root: str) -> None:
    data = packed([member(root + "proc/meminfo"), member(root + "proc/sys/vm/nr_hugepages")])
    assert set(read_archive(data)) == {"/proc/meminfo", "/proc/sys/vm/nr_hugepages"}


def test_links_and_folders_of_blocks_become_facts_without_text() -> None:
    data = packed(
        [member("proc/meminfo"),
         member("sys/devices/system/node/node0/memory5", kind=tarfile.SYMTYPE, target="../../../../etc"),
         member("sys/devices/system/memory/memory5/node0", kind=tarfile.SYMTYPE, target="/")]
    )  # fmt: skip
    files = read_archive(data)
    assert files["/sys/devices/system/node/node0/memory5"] == ""
    assert files["/sys/devices/system/memory/memory5/node0"] == ""


def test_files_that_no_import_reads_are_left_out() -> None:
    names = ("proc/meminfo", "etc/shadow", "proc/1/environ", "a/b/proc/meminfo")
    data = packed(member(name) for name in names)
    assert set(read_archive(data)) == {"/proc/meminfo"}


@pytest.mark.parametrize("name", ["../proc/meminfo", "proc/../../etc/passwd", "x/../proc/meminfo"])
def test_a_member_that_climbs_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="leaves the archive"):
        read_archive(packed([member("proc/meminfo"), member(name)]))


@pytest.mark.parametrize("kind", NOT_FILES)
def test_a_device_or_a_link_in_place_of_a_file_is_refused(kind: bytes) -> None:
    with pytest.raises(BadInput, match="not a file"):
        read_archive(packed([member("proc/meminfo", kind=kind, target="/etc/shadow")]))


def test_a_file_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="twice"):
        read_archive(packed([member("proc/meminfo"), member("./proc/meminfo")]))


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(BadInput, match="not text"):
        read_archive(packed([member("proc/meminfo", b"\xff\xfe\x00")]))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\x1f\x8b", gzip.compress(b"not a tar" * 200, mtime=0)]
)
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_archive(data)


@pytest.mark.parametrize(
    "header",
    [
        {"GNU.sparse.map": "0,1,x", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0", "GNU.sparse.size": "9" * 30},
        {"GNU.sparse.size": "-1", "GNU.sparse.offset": "9" * 5000},
        {"size": "-5"},
    ],
)
def test_headers_with_hostile_numbers_are_refused(header: dict[str, str]) -> None:
    hostile = tarfile.TarInfo("proc/meminfo")
    hostile.pax_headers = header
    data = gzip.compress(hostile.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024, mtime=0)
    with pytest.raises((BadInput, TooLarge)):
        read_archive(data)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_archive_is_refused(share: float) -> None:
    states = {f"/sys/devices/system/memory/memory{i}/state": "online\n" for i in range(1, 50)}
    data = make_archive(FILES | states)
    with pytest.raises(BadInput):
        read_archive(data[: int(len(data) * share)])


def test_an_archive_without_a_machine_in_it_is_refused() -> None:
    with pytest.raises(BadInput, match="no file"):
        read_archive(packed([member("etc/hostname")]))


def test_bombs_stop_at_their_limit() -> None:
    zeros = packed([member("etc/zeros", b"\0" * 3_000_000), member("proc/meminfo")])
    assert len(zeros) < 10_000
    with pytest.raises(TooLarge, match="unpacked"):
        read_archive(zeros, Limits(total_bytes=1_000_000))
    with pytest.raises(TooLarge, match="members"):
        read_archive(packed(member(f"x{i}") for i in range(30)), Limits(members=20))
    with pytest.raises(TooLarge, match="of one file"):
        read_archive(packed([member("proc/meminfo", b"x" * 2000)]), Limits(file_bytes=1000))
    with pytest.raises(TooLarge, match="bytes"):
        read_archive(zeros, Limits(packed_bytes=100))
    tail = make_archive(FILES) + gzip.compress(b"\0" * 5_000_000)
    with pytest.raises(TooLarge):
        read_archive(tail, Limits(total_bytes=1_000_000))


def test_collect_reads_a_root_and_lists_what_it_could_not_read(tmp_path: Path) -> None:
    for path, text in FILES.items():
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        if is_link(path):
            file.symlink_to("../../memory/memory0")
        else:
            file.write_text(text)
    (tmp_path / "proc/vmstat").write_bytes(b"\xff\xfe")
    (tmp_path / "proc/cpuinfo").write_text("model name\n")
    heard: list[str] = []
    found = collect(tmp_path, heard.append)
    assert found.files == FILES
    assert list(found.unreadable) == ["/proc/vmstat"]
    assert sorted(heard) == sorted([*FILES, "/proc/vmstat"])


def test_relevant_paths_are_those_that_the_contract_names() -> None:
    assert relevant("/sys/devices/system/node/node12/hugepages/hugepages-1048576kB/free_hugepages")
    assert relevant("/sys/kernel/mm/hugepages/hugepages-2048kB/demote_size")
    assert not relevant("/proc/self/meminfo")
    assert not relevant("/sys/devices/system/memory/probe")
    assert not relevant("/proc/meminfo/../../etc/shadow")
