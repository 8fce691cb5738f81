"""Integers in BLOBs: zlib over little-endian 64-bit words, each column as differences to the row before."""

import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]
LEVEL = 1  # zlib: fast; the differences are mostly equal, so more effort gains little


class Packed:
    """Rows of integers on their way into a BLOB column.

    Two are equal when their content is.  The BLOB is made when asked for; once stored only a hash is kept.
    """

    __slots__ = ("_rows", "mark")

    def __init__(self, rows: Words) -> None:
        self._rows: Words | None = rows
        self.mark = hashlib.blake2b(rows.tobytes(), digest_size=16).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packed) and other.mark == self.mark

    def __hash__(self) -> int:
        return hash(self.mark)

    def blob(self) -> bytes:
        """The BLOB; only until ``settle``."""
        assert self._rows is not None  # noqa: S101 - the row was written and settled already
        return pack(self._rows)

    def settle(self) -> None:
        """Forget the content once it is stored; the hash stays."""
        self._rows = None


def pack(rows: Words) -> bytes:
    """Rows of integers, shape (n, columns), as a BLOB."""
    return zlib.compress(np.diff(rows, axis=0, prepend=0).astype("<i8").tobytes(), LEVEL)


def unpack(blob: bytes, columns: int = 2) -> Words:
    """The rows of a BLOB, shape (n, columns)."""
    words = np.frombuffer(zlib.decompress(blob), "<i8").reshape(-1, columns)
    return np.cumsum(words, axis=0, dtype=np.int64)


def rows_of_pairs(pairs: Collection[tuple[int, int]]) -> Words:
    """Pairs as rows."""
    return np.fromiter(chain.from_iterable(pairs), np.int64, 2 * len(pairs)).reshape(-1, 2)


def rows_of_triples(triples: Collection[tuple[int, int, int]]) -> Words:
    """Triples as rows."""
    return np.fromiter(chain.from_iterable(triples), np.int64, 3 * len(triples)).reshape(-1, 3)


def rows_of_dict(mapping: Mapping[int, int]) -> Words:
    """A mapping as (key, value) rows, in its own order."""
    keys = np.fromiter(mapping.keys(), np.int64, len(mapping))
    return np.stack((keys, np.fromiter(mapping.values(), np.int64, len(mapping))), axis=1)


def rows_of_set(numbers: Collection[int]) -> Words:
    """A set of integers as (first, count) rows, rising."""
    ordered = np.sort(np.fromiter(numbers, np.int64, len(numbers)))
    if ordered.size == 0:
        return np.empty((0, 2), np.int64)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 2) != 1)
    return np.stack((ordered[starts], np.diff(starts, append=ordered.size)), axis=1)


def set_of_rows(rows: Words) -> set[int]:
    """The integers of (first, count) rows."""
    return {i for first, count in rows.tolist() for i in range(first, first + count)}


def intern(rows: npt.NDArray[Any]) -> list[bytes]:
    """One compressed BLOB for each row; equal rows are compressed once."""
    width = rows.shape[1] * rows.itemsize
    raw = np.ascontiguousarray(rows).tobytes()
    seen: dict[bytes, bytes] = {}
    out = []
    for start in range(0, len(raw), width):
        key = raw[start : start + width]
        blob = seen.get(key)
        if blob is None:
            blob = seen[key] = zlib.compress(key, LEVEL)
        out.append(blob)
    return out


def extern(blobs: Sequence[bytes], dtype: str, columns: int) -> npt.NDArray[Any]:
    """The rows behind BLOBs of ``intern``, shape (n, columns); equal BLOBs are decompressed once."""
    seen = {blob: zlib.decompress(blob) for blob in set(blobs)}
    return np.frombuffer(b"".join([seen[blob] for blob in blobs]), dtype).reshape(-1, columns)
