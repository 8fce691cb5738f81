"""Archives of /proc and /sys: what is taken, and what a hostile one cannot do."""

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from hugepool.fs import apart
from hugepool.fs.apart import read_apart
from hugepool.fs.archive import Limits, make_archive, read_archive
from hugepool.fs.collect import collect
from hugepool.fs.paths import is_link, relevant
from hugepool.mm.machine.errors import BadInput, MMError, TooLarge

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = {
    "/proc/meminfo": "MemTotal: 1 kB\n",
    "/proc/sys/vm/nr_hugepages": "0\n",
    "/sys/devices/system/memory/memory0/state": "online\n",
    "/sys/devices/system/node/node0/memory0": "",
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstd.compress,
}


Member = tuple[tarfile.TarInfo, bytes]
NOT_FILES = [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]


def member(name: str, content: bytes = b"0\n", kind: bytes = tarfile.REGTYPE, target: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def packed(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.size else None)
    return out.getvalue()


def files_of(data: bytes, limits: Limits | None = None) -> dict[str, str]:
    return read_archive(io.BytesIO(data), limits or Limits()).files


def test_an_archive_gives_back_what_was_packed_and_is_the_same_bytes_every_time() -> None:
    data = make_archive(FILES)
    assert files_of(data) == FILES
    assert make_archive(dict(reversed(FILES.items()))) == data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [f"/{info.name}" for info in archive] == sorted(FILES)
        assert archive.getmember("sys/devices/system/node/node0/memory0").issym()


@pytest.mark.parametrize("name", PACKERS)
def test_how_an_archive_is_packed_is_seen_by_how_it_begins(name: str) -> None:
    data = PACKERS[name](gzip.decompress(make_archive(FILES)))
    assert files_of(data) == FILES
    for share in (0.3, 0.5, 0.7):
        with pytest.raises(BadInput):
            files_of(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "plain"])
def test_pieces_packed_one_behind_the_other_are_one_archive(name: str) -> None:
    plain, pack = gzip.decompress(make_archive(FILES)), PACKERS[name]
    pieces = [pack(plain[i : i + 1000]) for i in range(0, len(plain), 1000)]
    assert files_of(b"".join(pieces)) == FILES
    assert files_of(b"".join([*pieces, bytes(700)])) == FILES
    with pytest.raises(BadInput, match="behind its end"):
        files_of(b"".join([*pieces, b"more"]))
    with pytest.raises(TooLarge, match="packed pieces"):
        files_of(b"".join([*pieces, *([pack(b"")] * 20_000)]))


def test_an_archive_says_when_it_was_collected() -> None:
    assert read_archive(io.BytesIO(make_archive(FILES, 1_700_000_000))).taken_s == 1_700_000_000
    info, content = member("proc/meminfo")
    info.mtime = 1_700_000_000.25
    assert read_archive(io.BytesIO(packed([(info, content)]))).taken_s == 1_700_000_000


@pytest.mark.parametrize("root", ["", "/", "./", "prod-17/", "./prod-17/"])
def test_members_may_begin_at_any_root(root: str) -> None:
    data = packed([member(root + "proc/meminfo"), member(root + "proc/sys/vm/nr_hugepages")])
    assert set(files_of(data)) == {"/proc/meminfo", "/proc/sys/vm/nr_hugepages"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_format_are_read(form: int) -> None:
    long = "x" * 60 + "/" + "y" * (60 if form == tarfile.USTAR_FORMAT else 4000)
    data = packed([member(long), member("prod-" + "9" * 90 + "/proc/meminfo", b"MemTotal: 1 kB\n")], form)
    assert files_of(data) == {"/proc/meminfo": "MemTotal: 1 kB\n"}


def test_an_archive_without_a_magic_is_read() -> None:
    header = bytearray(tarfile.TarInfo("proc/meminfo").tobuf(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    assert files_of(bytes(header) + bytes(1024)) == {"/proc/meminfo": ""}


def test_links_and_folders_of_blocks_become_facts_without_text() -> None:
    data = packed(
        [member("proc/meminfo"),
         member("sys/devices/system/node/node0/memory5", kind=tarfile.SYMTYPE, target="../../../../etc"),
         member("sys/devices/system/node/node0/memory6/", kind=tarfile.DIRTYPE),
         member("sys/devices/system/memory/memory5/node0", kind=tarfile.SYMTYPE, target="/")]
    )  # fmt: skip
    files = files_of(data)
    assert files["/sys/devices/system/node/node0/memory5"] == ""
    assert files["/sys/devices/system/node/node0/memory6"] == ""
    assert files["/sys/devices/system/memory/memory5/node0"] == ""


def test_files_that_no_import_reads_are_left_out() -> None:
    names = ("proc/meminfo", "etc/shadow", "proc/1/environ", "a/b/proc/meminfo")
    data = packed(member(name) for name in names)
    assert set(files_of(data)) == {"/proc/meminfo"}


@pytest.mark.parametrize("name", ["../proc/meminfo", "proc/../../etc/passwd", "x/../proc/meminfo"])
def test_a_member_that_climbs_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="leaves the archive"):
        files_of(packed([member("proc/meminfo"), member(name)]))


@pytest.mark.parametrize("kind", NOT_FILES)
def test_a_device_or_a_link_in_place_of_a_file_is_refused(kind: bytes) -> None:
    with pytest.raises(BadInput, match="not a plain file"):
        files_of(packed([member("proc/meminfo", kind=kind, target="/etc/shadow")]))


def test_a_file_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="twice"):
        files_of(packed([member("proc/meminfo"), member("./proc/meminfo")]))


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(BadInput, match="not text"):
        files_of(packed([member("proc/meminfo", b"\xff\xfe\x00")]))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\x1f\x8b", gzip.compress(b"not a tar" * 200, mtime=0), bytes(1024)]
)
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        files_of(data)


@pytest.mark.parametrize(
    "header",
    [
        {"GNU.sparse.map": "0,1,x", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0", "GNU.sparse.size": "9" * 30},
        {"GNU.sparse.size": "-1", "GNU.sparse.offset": "9" * 5000},
        {"size": "-5"},
        {"size": "9" * 5000},
        {"size": "99999999999"},
        {"path": "proc/meminfo\0"},
    ],
)
def test_headers_with_hostile_numbers_are_refused(header: dict[str, str]) -> None:
    hostile = tarfile.TarInfo("proc/meminfo")
    hostile.pax_headers = header
    data = gzip.compress(hostile.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024, mtime=0)
    with pytest.raises((BadInput, TooLarge)):
        files_of(data)


HOSTILE = [b"1" * 60_000, b"9 " * 30_000, b"99999 path=x\n", b"7 a=\n\n\n", b"12 path\n\n\n\n\n", b"0 =\n",
           b"5 x=\n" * 12_000]  # fmt: skip


@pytest.mark.parametrize("records", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", [b"x", b"X"])
def test_records_that_are_malformed_take_no_time(records: bytes, kind: bytes) -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    header[124:136], header[156:157] = b"%011o\0" % len(records), kind
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    data = bytes(header) + records + bytes(-len(records) % 512) + bytes(1024)
    begun = time.perf_counter()
    with pytest.raises(MMError):
        files_of(data)
    assert time.perf_counter() - begun < 1


def test_an_archive_that_is_changed_anywhere_is_read_or_refused() -> None:
    """Never anything else than one of the two errors, whichever bits change."""
    chance = random.Random(1)
    plain = gzip.decompress(
        packed([*(member(path[1:]) for path in FILES), member("proc/vmstat", b"x 1\n" * 300)])
    )
    for name, pack in PACKERS.items():
        for _ in range(300):
            data = bytearray(pack(plain) if name != "plain" else plain)
            for _ in range(chance.choice((1, 1, 3))):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            try:
                files_of(bytes(data), Limits(unpacked_bytes=1 << 22))
            except (BadInput, TooLarge):
                continue


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_archive_is_refused(share: float) -> None:
    states = {f"/sys/devices/system/memory/memory{i}/state": "online\n" for i in range(1, 50)}
    data = make_archive(FILES | states)
    with pytest.raises(BadInput):
        files_of(data[: int(len(data) * share)])


def test_an_archive_without_a_machine_in_it_is_refused() -> None:
    with pytest.raises(BadInput, match="no file"):
        files_of(packed([member("etc/hostname")]))


def test_bombs_stop_at_their_limit() -> None:
    zeros = packed([member("etc/zeros", b"\0" * 3_000_000), member("proc/meminfo")])
    assert len(zeros) < 10_000
    with pytest.raises(TooLarge, match="unpacks to more"):
        files_of(zeros, Limits(unpacked_bytes=1_000_000))
    with pytest.raises(TooLarge, match="members"):
        files_of(packed(member(f"x{i}") for i in range(30)), Limits(members=20))
    with pytest.raises(TooLarge, match="of one file"):
        files_of(packed([member("proc/meminfo", b"x" * 2000)]), Limits(file_bytes=1000))
    with pytest.raises(TooLarge, match="of /proc and /sys"):
        files_of(
            packed(member(f"proc/{name}", b"x" * 600) for name in ("meminfo", "vmstat")),
            Limits(kept_bytes=1000),
        )
    tail = make_archive(FILES) + gzip.compress(b"\0" * 5_000_000)
    with pytest.raises(TooLarge):
        files_of(tail, Limits(unpacked_bytes=1_000_000))


# -- in its own process ----------------------------------------------------------------------------------


def test_a_process_of_its_own_says_the_same() -> None:
    assert read_apart(make_archive(FILES)).files == FILES
    with pytest.raises(TooLarge, match="members"):
        read_apart(make_archive(FILES), Limits(members=2))
    with pytest.raises(BadInput, match="twice") as refused:
        read_apart(packed([member("proc/meminfo"), member("./proc/meminfo")]))
    assert refused.value.errors[0]["field"] == "/proc/meminfo"


def _endless(*_: Any) -> None:
    time.sleep(1000)


def _hungry(*_: Any) -> None:
    import os  # noqa: PLC0415 - in the process

    os.kill(os.getpid(), 9)


@pytest.mark.parametrize(("work", "said"), [(_endless, "more than 0.5 seconds"), (_hungry, "memory or time")])
def test_a_process_that_goes_on_or_dies_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, work: Any, said: str
) -> None:
    monkeypatch.setattr(apart, "_read", work)
    begun = time.monotonic()
    with pytest.raises(TooLarge, match=said):
        read_apart(make_archive(FILES), seconds=0.5)
    assert time.monotonic() - begun < 20


# -- collecting ------------------------------------------------------------------------------------------------


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
