"""Sections as rows: compact, and exactly the memory they came from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.kernel.hugetlb import set_max_huge_pages
from hugepool.mm.machine.mmzone import MemoryMap
from hugepool.mm.machine.sparse_vmemmap import tables
from hugepool.mm.machine.state import Call, Host
from hugepool.store.engine import Database
from hugepool.store.hosts import Change, HostStore
from hugepool.store.packing import pack, rows_of_set, set_of_rows, unpack
from hugepool.store.sections import COLUMNS, decode, encode, stored_sections

ARRAYS = ("use", "mt", "flags", "nfree", "zone", "section_state", "section_nid", "hot_added", "vmemmap_pfn",
          "pte_pfn")  # fmt: skip


def machine(gib: int = 8) -> Host:
    return boot(HostSpec((NodeSpec(gib << 30),), cmdline="hugetlb_free_vmemmap=on"), Call())


def decoded(host: Host) -> MemoryMap:
    fresh = MemoryMap(host.mem.nr_sections, host.mem.kept)
    for zone in host.zones:
        fresh.add_zone(zone)
    decode(fresh, encode(host.mem, 1, stored_sections(host.mem)))
    return fresh


@given(arrays(np.int64, st.tuples(st.integers(0, 20), st.just(2)), elements=st.integers(-(2**63), 2**63 - 1)))
def test_packed_rows_come_back(rows: np.ndarray) -> None:
    assert np.array_equal(unpack(pack(rows)), rows)


@given(st.sets(st.integers(0, 300)))
def test_packed_sets_come_back(numbers: set[int]) -> None:
    assert set_of_rows(unpack(pack(rows_of_set(numbers)))) == numbers


@given(st.integers(1, 2000), st.lists(st.integers(0, 255), min_size=512, max_size=512), st.integers(1, 60))
def test_any_use_of_memory_comes_back(count: int, uses: list[int], block: int) -> None:
    host = machine()
    set_max_huge_pages(host, Call(), host.hstates[9], count, None, [0])
    mem = host.mem
    mem.assign_pages(np.array([block * 512 + 5]), 8)  # type: ignore[arg-type]
    mem.detail[mem.slot[block]] = uses
    mem.nfree[block] = uses.count(1)
    fresh = decoded(host)
    for name in ARRAYS:
        assert np.array_equal(getattr(fresh, name), getattr(mem, name)), name
    mixed, split = np.flatnonzero(mem.slot), np.flatnonzero(mem.pte_slot)
    assert np.array_equal(np.flatnonzero(fresh.pte_slot), split)
    assert np.array_equal(fresh.detail[fresh.slot[mixed]], mem.detail[mem.slot[mixed]])
    assert np.array_equal(tables(fresh, split), tables(mem, split))


def test_a_free_section_needs_no_blob() -> None:
    host = machine()
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in encode(host.mem, 1, stored_sections(host.mem))]
    free = [row for row in rows if row["free_pages"] == 32768]
    assert len(free) > 40
    assert all(row[name] is None for row in free for name in ("blocks", "pages", "page_table", "stamps"))
    assert {row["mapping"] for row in rows} == {"pmd"}


def test_the_tables_are_readable_with_plain_sql(store: HostStore, database: Database) -> None:
    host = machine()
    set_max_huge_pages(host, Call(), host.hstates[9], 100, None, [0])
    store.create("lab", host, Change(0))
    with database.reading() as connection:
        ask = connection.exec_driver_sql
        split = "SELECT count(*), sum(optimized_hugepages) FROM sections WHERE mapping = 'pte'"
        assert ask(split).fetchone() == (2, 100)
        free = "SELECT sum(free_pages) FROM sections"
        zones = "SELECT sum(nr_free) FROM zones"
        assert ask(free).fetchone() == ask(zones).fetchone()
        pools = "SELECT size, nr_huge_pages, nr_free_vmemmap_pages FROM hstates ORDER BY page_order"
        assert ask(pools).fetchall() == [("2048kB", 100, 6), ("1048576kB", 0, 4094)]
        blocks = "SELECT count(*) FROM memory_blocks WHERE state = 'online'"
        assert ask(blocks).fetchone() == (64,)
