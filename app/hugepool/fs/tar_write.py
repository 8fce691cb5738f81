"""A tar of texts: the same bytes for the same files."""

from collections.abc import Iterable
from typing import NamedTuple

from hugepool.fs.tar import BLOCK


class Entry(NamedTuple):
    """A file, or with a target a symbolic link."""

    name: str
    content: bytes = b""
    target: str = ""


def tar_of(entries: Iterable[Entry], mtime: int = 0) -> bytes:
    """An archive of entries in their order.

    Raises:
        ValueError: a name that is longer than 100 bytes.
    """
    parts: list[bytes] = []
    for entry in entries:
        parts += (_header(entry, mtime), entry.content, bytes(-len(entry.content) % BLOCK))
    parts.append(bytes(2 * BLOCK))
    return b"".join(parts)


def _header(entry: Entry, mtime: int) -> bytes:
    name, target = entry.name.encode(), entry.target.encode()
    if max(len(name), len(target)) > 100:
        raise ValueError(f"{entry.name!r} does not fit into a header")
    kind = b"2" if target else b"0"
    before = b"%s0000644\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        0,
        0,
        len(entry.content),
        mtime,
    )
    behind = kind + target.ljust(100, b"\0") + b"ustar\00000" + bytes(247)
    checksum = sum(before) + sum(behind) + sum(b" " * 8)
    return before + b"%06o\0 " % checksum + behind
