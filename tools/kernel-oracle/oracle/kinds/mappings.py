"""Huge pages that processes map, and files on hugetlbfs."""

import re

from oracle.guest import Guest
from oracle.kernels import OracleError
from oracle.steps import Answer, Fields, answer, by_task, kind

FILE_OPS = ("fallocate", "punch", "truncate", "unlink")
SIGNALS = {7: "SIGBUS", 11: "SIGSEGV"}
MAPPING = {
    "size_kb": 2048,
    "shared": False,
    "noreserve": False,
    "populate": False,
    "file": None,
    "offset": None,
}


@kind("huge-map", "task map count", MAPPING)
def _huge_map(guest: Guest, op: Fields, timeout: float) -> Answer:
    """Anonymous huge pages, or those of a ``file`` on hugetlbfs from page ``offset`` on; size_kb is its mount's."""
    flags = (
        ("s" if op["shared"] else "p") + ("n" if op["noreserve"] else "") + ("P" if op["populate"] else "")
    )
    file = [op["file"], op.get("offset", 0)] if "file" in op else []
    args = (op["map"], op["size_kb"], op["count"], flags, *file)
    return answer(by_task(guest, op, timeout, "huge-map", *args))


@kind("huge-touch", "task map count", {"from": 0})  # it writes
@kind("huge-write", "task map count", {"from": 0})
@kind("huge-read", "task map count", {"from": 0})
def _huge_touch(guest: Guest, op: Fields, timeout: float) -> Answer:
    reply = by_task(guest, op, timeout, op["do"], op["map"], op["from"], op["count"])
    signal = re.search(r"signal=(\d+)", reply.text)
    return answer(reply, signal=SIGNALS.get(int(signal[1])) if signal else None)


@kind("huge-unmap", "task map", {"from": None, "count": None})
def _huge_unmap(guest: Guest, op: Fields, timeout: float) -> Answer:
    part = [op.get("from", 0), op["count"]] if "count" in op else []
    return answer(by_task(guest, op, timeout, "huge-unmap", op["map"], *part))


@kind("huge-madvise", "task map advice")
def _huge_madvise(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(by_task(guest, op, timeout, "huge-madvise", op["map"], op["advice"]))


@kind("huge-file-allocate", "task path mib")
def _huge_file_allocate(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(by_task(guest, op, timeout, "huge-file-allocate", op["path"], op["mib"]))


@kind("huge-file", "task path op", {"from": 0, "count": 0, "size_kb": 2048})
def _huge_file(guest: Guest, op: Fields, timeout: float) -> Answer:
    """A file on hugetlbfs, in huge pages: ``count`` of them from page ``from`` on; truncate to ``count``."""
    if op["op"] not in FILE_OPS:
        raise OracleError(f"huge-file: op is one of {', '.join(FILE_OPS)}, not {op['op']!r}")
    args = (op["op"], op["path"], op["size_kb"], op["from"], op["count"])
    reply = by_task(guest, op, timeout, "huge-file", *args)
    words = reply.text.split()
    file = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    return answer(reply, **({"file": file} if file else {}))
