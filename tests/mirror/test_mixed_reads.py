"""Reads of every kind while a pool changes: each gives a whole text that was true at some time during the read."""

import errno
import mmap
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.mirror.helpers import POOL, Lab, mounting, skip_without_fuse

COUNTS = (3, 7, 18, 44, 188, 311)  # of one, two and three digits
READS = 240
READERS = 3
MOST = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """A file to read, and one in memory to copy into."""
    source, target = os.open(path, os.O_RDONLY), os.memfd_create("copy")
    try:
        yield source, target
    finally:
        os.close(source)
        os.close(target)


def by_read(path: Path, _: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return file.read(MOST) or b""


def by_sendfile(path: Path, _: Path) -> bytes:
    with opened(path) as (source, target):
        while os.sendfile(target, source, None, MOST):
            pass
        return os.pread(target, MOST, 0)


def by_sendfile_twice(path: Path, _: Path) -> bytes:
    """From the beginning again: the second text counts."""
    with opened(path) as (source, target):
        os.fstat(source)
        os.sendfile(target, source, 0, MOST)
        os.ftruncate(target, 0)
        length = os.sendfile(target, source, 0, MOST)
        return os.pread(target, MOST, os.lseek(target, 0, os.SEEK_CUR) - length)


def by_splice(path: Path, _: Path) -> bytes:
    source, (readable, writable), found = os.open(path, os.O_RDONLY), os.pipe(), b""
    try:
        while count := os.splice(source, writable, 1 << 16):
            found += os.read(readable, count)
        return found
    finally:
        for descriptor in (source, readable, writable):
            os.close(descriptor)


def by_copy(path: Path, scratch: Path) -> bytes:
    """shutil looks at the size, then uses sendfile(2)."""
    shutil.copyfile(path, scratch)
    return scratch.read_bytes()


def by_copy_file_range(path: Path, scratch: Path) -> bytes:
    with path.open("rb") as source, scratch.open("w+b") as target:
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):  # between file systems, as from sysfs
            os.copy_file_range(source.fileno(), target.fileno(), MOST)
        return os.read(source.fileno(), MOST)


def by_mmap(path: Path, _: Path) -> bytes:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped,
    ):
        return bytes(mapped)


WAYS: tuple[Callable[[Path, Path], bytes], ...] = (
    by_read, by_sendfile, by_splice, by_copy, by_copy_file_range, by_mmap,
)  # fmt: skip


@dataclass
class Span:
    """When a pool may have had a size: from the beginning of one write to the end of the next."""

    count: int
    begin: float
    end: float = float("inf")


def change(lab: Lab, spans: list[Span], stop: threading.Event) -> None:
    chosen = random.Random(4)
    while not stop.is_set():
        span = Span(chosen.choice(COUNTS), time.monotonic())
        spans.append(span)
        lab.client.resize(lab.name, "2048kB", span.count)
        if len(spans) > 1:
            spans[-2].end = time.monotonic()


def read(path: Path, scratch: Path, spans: list[Span], number: int) -> list[str]:
    """What was wrong."""
    chosen, wrong = random.Random(number), []
    for _ in range(READS // READERS):
        way, begin = chosen.choice(WAYS), time.monotonic()
        found, end = way(path, scratch.with_suffix(f".{number}")), time.monotonic()
        if not any(found == b"%d\n" % s.count and s.begin <= end and s.end >= begin for s in tuple(spans)):
            wrong.append(f"{way.__name__}: {found!r}")
    return wrong


def test_reads_of_every_kind_are_true_while_the_pool_changes(lab: Lab, tmp_path: Path) -> None:
    skip_without_fuse()
    folder, stop = tmp_path / "mnt", threading.Event()
    folder.mkdir()
    spans = [Span(0, float("-inf"))]
    with mounting(lab, folder), ThreadPoolExecutor(READERS + 1) as threads:
        writer = threads.submit(change, lab, spans, stop)
        try:
            one = partial(read, folder / POOL / "nr_hugepages", tmp_path / "copy", spans)
            wrong = [what for found in threads.map(one, range(READERS)) for what in found]
        finally:
            stop.set()
        writer.result()
    assert wrong == []
    assert len(spans) > 20


@pytest.mark.parametrize("way", [*WAYS, by_sendfile_twice])
def test_each_way_reads_files_of_proc_and_sys_whole(
    lab: Lab, tmp_path: Path, way: Callable[[Path, Path], bytes]
) -> None:
    skip_without_fuse()
    with mounting(lab, tmp_path):
        for path in ("proc/meminfo", "proc/zoneinfo", "proc/sys/vm/nr_hugepages", f"{POOL}/nr_hugepages"):
            assert way(tmp_path / path, Path(f"{tmp_path}.copy")).decode() == lab.read(path)
