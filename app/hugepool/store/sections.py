"""Sections as rows, by array work: 131,072 of them for 16 TiB.

The BLOBs, each zlib-compressed:

* ``blocks``: uint8 use[64], uint8 migratetype[64], uint8 flags[64], int16 zone[64] (index + 1, 0 none; all 0
  where the ``zone`` column says it).  NULL stands for 64 free, movable pageblocks of the section's zone.
* ``pages``: uint8 use[512] for each pageblock of use MIXED, in rising order.
* ``page_table``: the first of the 512 PTE words as a bare int64, then, compressed, int64[511]: each of the
  others less the one before it.  Equally used sections so have equal differences, which are compressed once.
  NULL with mapping ``pte``: the table follows from ``vmemmap_pfn`` and the flags (``sparse_vmemmap.tables``).
* ``stamps``: int32[64], enqueue stamp of each free huge page less ``first_stamp``, -1 elsewhere.
* ``free_stamps``: int64[64], stamp of each free pageblock in the order of the buddy's lists less
  ``first_free_stamp``, plus 1; 0 where it is as booted.  NULL stands for 64 such.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine.mmzone import FIRST_ROWS, BlockFlag, MemoryMap, Migrate, SectionState, Use
from hugepool.mm.machine.sparse_vmemmap import REGULAR
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, PAGEBLOCK_PAGES, PTRS_PER_PTE
from hugepool.store.packing import LEVEL, extern, intern

Sections = npt.NDArray[np.int64]
STATES = {int(s): s.name.lower() for s in SectionState}
STATE_OF = {name: value for value, name in STATES.items()}
KNOWN_FLAGS = np.uint8(127)  # 128 was kept for pageblocks with pages on a list, before the lists were
COLUMNS = (
    "host_id", "section", "state", "node", "zone", "mapping", "hot_added", "free_pages",
    "optimized_hugepages", "vmemmap_pfn", "page_table_pfn", "blocks", "pages", "page_table", "first_stamp",
    "stamps", "first_free_stamp", "free_stamps",
)  # fmt: skip
NR_PLAIN = COLUMNS.index("page_table_pfn")  # the columns behind are NULL for sections without huge pages
_DEFAULT = np.zeros(5 * BLOCKS_PER_SECTION, np.uint8)
_DEFAULT[:BLOCKS_PER_SECTION] = Use.BUDDY
_DEFAULT[BLOCKS_PER_SECTION : 2 * BLOCKS_PER_SECTION] = Migrate.MOVABLE
_LISTED = BlockFlag.FREE | BlockFlag.HEAD


def stored_sections(mem: MemoryMap) -> Sections:
    """The sections that need a row: all but those that were never there."""
    ever = mem.section_state != SectionState.ABSENT
    ever |= mem.zone.reshape(-1, BLOCKS_PER_SECTION).any(axis=1)
    ever |= mem.use.reshape(-1, BLOCKS_PER_SECTION).any(axis=1)
    return np.flatnonzero(ever)


# -- into rows --------------------------------------------------------------------------------------------


def encode(mem: MemoryMap, host_id: int, sections: Sections) -> list[tuple[Any, ...]]:
    """Rows of the ``sections`` table, values as ``COLUMNS``, for some sections (unique, rising)."""
    zone = _by_section(mem.zone, sections)
    uniform = (zone == zone[:, :1]).all(axis=1) & (zone[:, 0] > 0)
    flags = _by_section(mem.flags, sections)
    first_stamps, stamps = _encode_stamps(mem, sections, flags)
    first_free, free_stamps = _encode_order(mem, sections)
    split = mem.pte_slot[sections] != 0
    columns: tuple[Sequence[Any], ...] = (
        [host_id] * sections.size,
        sections.tolist(),
        [STATES[s] for s in mem.section_state[sections].tolist()],
        _nullable(mem.section_nid[sections]),
        [z - 1 if u else None for z, u in zip(zone[:, 0].tolist(), uniform.tolist(), strict=True)],
        _mappings(mem, sections, split),
        mem.hot_added[sections].astype(int).tolist(),
        _by_section(mem.nfree, sections).sum(axis=1, dtype=np.int64).tolist(),
        ((flags & BlockFlag.OPTIMIZED) != 0).sum(axis=1).tolist(),
        _nullable(mem.vmemmap_pfn[sections]),
        _nullable(mem.pte_pfn[sections]),
        _encode_blocks(mem, sections, zone, uniform),
        _encode_pages(mem, sections),
        _encode_page_tables(mem, sections),
        first_stamps,
        stamps,
        first_free,
        free_stamps,
    )
    return list(zip(*columns, strict=True))


def _by_section(array: npt.NDArray[Any], sections: Sections) -> npt.NDArray[Any]:
    return array.reshape(-1, BLOCKS_PER_SECTION)[sections]


def _nullable(values: npt.NDArray[Any]) -> list[int | None]:
    """-1 as None."""
    return [v if v >= 0 else None for v in values.tolist()]


def _mappings(mem: MemoryMap, sections: Sections, split: npt.NDArray[np.bool_]) -> list[str | None]:
    words = ("pmd", "pte", None)
    which = np.where(split, 1, np.where(mem.vmemmap_pfn[sections] >= 0, 0, 2))
    return [words[i] for i in which.tolist()]


def _encode_blocks(
    mem: MemoryMap, sections: Sections, zone: npt.NDArray[Any], uniform: npt.NDArray[np.bool_]
) -> list[bytes | None]:
    zones = np.where(uniform[:, None], 0, zone).astype("<i2").view(np.uint8)
    rows = np.concatenate([_by_section(a, sections) for a in (mem.use, mem.mt, mem.flags)] + [zones], axis=1)
    which = np.flatnonzero((rows != _DEFAULT).any(axis=1) | ~uniform)
    out: list[bytes | None] = [None] * sections.size
    for i, blob in zip(which.tolist(), intern(rows[which]), strict=True):
        out[i] = blob
    return out


def _encode_pages(mem: MemoryMap, sections: Sections) -> list[bytes | None]:
    """Uses of the pages of mixed pageblocks; sections that are cut alike, as those of an import, are packed once."""
    out: list[bytes | None] = [None] * sections.size
    packed: dict[bytes, bytes] = {}
    mixed = _by_section(mem.use, sections) == Use.MIXED
    slots = _by_section(mem.slot, sections)
    for i in np.flatnonzero(mixed.any(axis=1)).tolist():
        raw = mem.detail[slots[i, mixed[i]]].tobytes()
        if raw not in packed:
            packed[raw] = zlib.compress(raw, LEVEL)
        out[i] = packed[raw]
    return out


def _encode_page_tables(mem: MemoryMap, sections: Sections) -> list[bytes | None]:
    """Stored tables; a split section without one has the table that its frames and flags give."""
    which = np.flatnonzero(mem.pte_slot[sections] > 0)
    words = mem.pte[mem.pte_slot[sections[which]]].astype("<i8", copy=False)
    firsts = words[:, 0].tobytes()
    rest = intern(np.diff(words, axis=1))
    out: list[bytes | None] = [None] * sections.size
    for n, i in enumerate(which.tolist()):
        out[i] = firsts[n * 8 : n * 8 + 8] + rest[n]
    return out


def _encode_stamps(
    mem: MemoryMap, sections: Sections, flags: npt.NDArray[Any]
) -> tuple[list[int | None], list[bytes | None]]:
    listed = (flags & _LISTED) == _LISTED
    which = np.flatnonzero(listed.any(axis=1))
    seq = _by_section(mem.seq, sections[which]).astype(np.int64)
    lowest = np.where(listed[which], seq, np.iinfo(np.int64).max).min(axis=1)
    rows = np.where(listed[which], seq - lowest[:, None], -1).astype("<i4")
    return _columns(sections.size, which, lowest, rows)


def _encode_order(mem: MemoryMap, sections: Sections) -> tuple[list[int | None], list[bytes | None]]:
    stamped = sections[_any_stamp(mem, sections)]
    placed = (_by_section(mem.order.stamp, stamped) != 0) & (_by_section(mem.use, stamped) == Use.BUDDY)
    has = placed.any(axis=1)
    which, placed = np.searchsorted(sections, stamped[has]), placed[has]
    stamps = _by_section(mem.order.stamp, stamped[has])
    lowest = np.where(placed, stamps, np.iinfo(np.int64).max).min(axis=1)
    rows = np.where(placed, stamps - lowest[:, None] + 1, 0).astype("<i8")
    return _columns(sections.size, which, lowest, rows)


def _columns(
    count: int, which: Sections, lowest: Sections, rows: npt.NDArray[Any]
) -> tuple[list[int | None], list[bytes | None]]:
    """The lowest stamp and the BLOB of those of ``count`` rows that have stamps, None for the others."""
    first: list[int | None] = [None] * count
    blobs: list[bytes | None] = [None] * count
    for i, stamp, blob in zip(which.tolist(), lowest.tolist(), intern(rows), strict=True):
        first[i], blobs[i] = stamp, blob
    return first, blobs


def _any_stamp(mem: MemoryMap, sections: Sections) -> npt.NDArray[np.bool_]:
    """Which sections have a stamp; many are looked up in all, a few by themselves."""
    if sections.size * 16 < mem.nr_sections:
        return np.asarray(_by_section(mem.order.stamp, sections).any(axis=1))
    return np.asarray(mem.order.stamp.reshape(-1, BLOCKS_PER_SECTION).any(axis=1))[sections]


# -- out of rows ------------------------------------------------------------------------------------------


def decode(mem: MemoryMap, rows: Sequence[Sequence[Any]]) -> None:
    """Fill a fresh memory map (zones registered) from rows whose values follow ``COLUMNS``."""
    if not rows:
        return
    column = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    sections = np.array(column["section"], np.int64)
    mem.section_state[sections] = [STATE_OF[s] for s in column["state"]]
    mem.section_nid[sections] = _or_none(column["node"])
    mem.hot_added[sections] = column["hot_added"]
    mem.vmemmap_pfn[sections] = _or_none(column["vmemmap_pfn"])
    mem.pte_pfn[sections] = _or_none(column["page_table_pfn"])
    _decode_blocks(mem, sections, column["zone"], column["blocks"])
    _decode_pages(mem, sections, column["pages"])
    mem.pte_slot[sections] = np.where(np.array(column["mapping"]) == "pte", REGULAR, 0)
    _decode_page_tables(mem, sections, column["page_table"])
    _decode_stamps(mem, sections, column["first_stamp"], column["stamps"])
    _decode_order(mem, sections, column["first_free_stamp"], column["free_stamps"])
    mem.cma_blocks = np.flatnonzero(mem.mt == Migrate.CMA)
    mem.count_free_cma()
    mem.dirty[:] = False


def _or_none(values: Sequence[int | None]) -> npt.NDArray[np.int64]:
    """None as -1."""
    return np.array([-1 if v is None else v for v in values], np.int64)


def _present(blobs: Sequence[bytes | None]) -> tuple[npt.NDArray[np.int64], list[bytes]]:
    """Where BLOBs are, and they."""
    found = [(i, blob) for i, blob in enumerate(blobs) if blob is not None]
    return np.array([i for i, _ in found], np.int64), [blob for _, blob in found]


def _decode_blocks(
    mem: MemoryMap, sections: Sections, zones: Sequence[int | None], blobs: Sequence[bytes | None]
) -> None:
    rows = np.tile(_DEFAULT, (sections.size, 1))
    where, present = _present(blobs)
    if present:
        rows[where] = extern(present, "u1", _DEFAULT.size)
    use, mt, flags, packed = np.split(rows, [64, 128, 192], axis=1)
    flags = flags & KNOWN_FLAGS
    zone = np.ascontiguousarray(packed).view("<i2").astype(np.int16)
    for array, values in ((mem.use, use), (mem.mt, mt), (mem.flags, flags)):
        array.reshape(-1, BLOCKS_PER_SECTION)[sections] = values
    uniform = _or_none(zones)[:, None]
    mem.zone.reshape(-1, BLOCKS_PER_SECTION)[sections] = np.where(uniform >= 0, uniform + 1, zone)
    mem.nfree[mem.use == Use.BUDDY] = PAGEBLOCK_PAGES


def _decode_pages(mem: MemoryMap, sections: Sections, blobs: Sequence[bytes | None]) -> None:
    blocks = (sections[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)).ravel()
    mixed = blocks[mem.use[blocks] == Use.MIXED]
    if not mixed.size:
        return
    count = max(len(mem.detail), mixed.size + FIRST_ROWS)
    mem.detail = np.zeros((count, PAGEBLOCK_PAGES), np.uint8)
    begin = 1
    for blob in filter(None, blobs):
        rows = np.frombuffer(zlib.decompress(blob), np.uint8).reshape(-1, PAGEBLOCK_PAGES)
        mem.detail[begin : begin + len(rows)] = rows
        mem.nfree[mixed[begin - 1 : begin - 1 + len(rows)]] = (rows == Use.BUDDY).sum(axis=1)
        begin += len(rows)
    mem.slot[mixed] = np.arange(1, mixed.size + 1)
    mem.spare_slots = list(range(count - 1, mixed.size, -1))


def _decode_page_tables(mem: MemoryMap, sections: Sections, blobs: Sequence[bytes | None]) -> None:
    where, present = _present(blobs)
    if not present:
        return
    split = sections[where]
    mem.add_pte_rows(split)
    words = np.empty((split.size, PTRS_PER_PTE), np.int64)
    words[:, 0] = np.frombuffer(b"".join([blob[:8] for blob in present]), "<i8")
    words[:, 1:] = extern([blob[8:] for blob in present], "<i8", PTRS_PER_PTE - 1)
    mem.pte[mem.pte_slot[split]] = np.cumsum(words, axis=1)


def _decode_stamps(
    mem: MemoryMap, sections: Sections, first: Sequence[int | None], blobs: Sequence[bytes | None]
) -> None:
    where, present = _present(blobs)
    if not present:
        return
    rows = extern(present, "<i4", BLOCKS_PER_SECTION).astype(np.int64)
    stamps = np.where(rows >= 0, rows + _or_none(first)[where][:, None], 0)
    mem.seq.reshape(-1, BLOCKS_PER_SECTION)[sections[where]] = stamps


def _decode_order(
    mem: MemoryMap, sections: Sections, first: Sequence[int | None], blobs: Sequence[bytes | None]
) -> None:
    where, present = _present(blobs)
    if not present:
        return
    rows = extern(present, "<i8", BLOCKS_PER_SECTION)
    stamps = np.where(rows > 0, rows - 1 + _or_none(first)[where][:, None], 0)
    mem.order.stamp.reshape(-1, BLOCKS_PER_SECTION)[sections[where]] = stamps
    placed = np.flatnonzero(mem.order.stamp)
    mem.order.restore(placed, mem.zone[placed])
