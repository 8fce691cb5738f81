"""Importing real machines: every recorded boot, cell by cell."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hugepool.fs.machine import read_machine
from hugepool.mm.boot.image import MachineImage, ZoneImage
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.buddy import find_free_blocks, free_area
from hugepool.mm.kernel.huge_blocks import find_huge_blocks
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import BlockFlag, Migrate, Use
from hugepool.mm.machine.state import Call
from hugepool.mm.views.vmstat import block_states, mem_total_pages
from tests.fs.machines import SMALL, ZoneOf
from tests.fs.machines import machine as files_of
from tests.mm.hosts import assert_laws, machine

TRACES = sorted((Path(__file__).parents[1] / "data" / "traces").glob("*.json.gz"))


def _boot(path: Path) -> dict[str, Any] | None:
    trace = json.loads(gzip.decompress(path.read_bytes()))
    return {**trace["boot"], "kernel": trace["kernel"]} if trace["boot"]["files"] else None


def _zone_of(recording: str, zone: str) -> tuple[MachineImage, ZoneImage]:
    """The machine of a recording, and one of its zones."""
    boot = _boot(next(p for p in TRACES if p.name.startswith(recording)))
    assert boot is not None
    image = read_machine(boot["files"], boot["kernel"])
    return image, next(each for each in image.zones if each.name == zone)


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.name[:-8])
def test_a_recorded_boot_comes_back_cell_by_cell(path: Path) -> None:
    boot = _boot(path)
    if boot is None:
        pytest.skip("this guest did not come up: there is nothing to import")
    host = restore_machine(read_machine(boot["files"], boot["kernel"]), Call())
    assert_laws(host)
    counters = boot["counters"]
    assert mem_total_pages(host) * 4 == counters["meminfo_kb"]["MemTotal"]
    assert block_states(host) == counters["memory_blocks"]
    for zone in (z for z in host.zones if z.present):
        recorded = counters["zones"][f"{zone.nid}/{zone.name}"]
        assert free_area(host.mem, zone) == counters["buddyinfo"][f"{zone.nid}/{zone.name}"]
        for word in ("present", "spanned", "managed", "min", "low", "high", "pcp"):
            assert getattr(zone, {"pcp": "nr_pcp"}.get(word, word)) == recorded[word]
        assert zone.lowmem_reserve == recorded["protection"][:4]
    for hs in host.hstates.values():
        files = counters["hugepages"][hs.size]
        assert (hs.nr_huge_pages, hs.free_huge_pages, hs.resv_huge_pages, hs.surplus_huge_pages) == tuple(
            files[f"{word}_hugepages"] for word in ("nr", "free", "resv", "surplus")
        )


def test_movable_blocks_of_order_9_go_before_a_pair_is_split_and_others_do_not() -> None:
    image, zone_image = _zone_of("f_reserve-6.1-HVOon", "DMA32")
    assert zone_image.free_by_type is not None
    assert (zone_image.free_area[9:], zone_image.free_by_type[Migrate.MOVABLE][9]) == ([4, 478], 2)
    host = restore_machine(image, Call())
    mem, zone = host.mem, host.nodes[0].zones[1]
    blocks = find_huge_blocks(mem, zone, 4)
    assert (mem.use[blocks ^ 1] == Use.BUDDY).tolist() == [False, False, True, True]
    assert (mem.mt[blocks] == Migrate.MOVABLE).all()
    assert blocks[2] ^ 1 == blocks[3]
    everything = find_huge_blocks(mem, zone, mem.nr_blocks)
    assert sorted(everything.tolist()) == find_free_blocks(mem, zone, mem.nr_blocks).tolist()
    assert (mem.mt[everything[-2:]] != Migrate.MOVABLE).all()


def test_unmovable_free_blocks_of_zone_movable_lie_beside_early_memory() -> None:
    image, zone_image = _zone_of("g_offline_inuse-6.1-HVOoff", "Movable")
    assert zone_image.free_by_type is not None
    unmovable = sum((n or 0) << order for order, n in enumerate(zone_image.free_by_type[Migrate.UNMOVABLE]))
    assert unmovable == 451
    host = restore_machine(image, Call())
    mem, zone = host.mem, host.nodes[0].zones[3]
    early = np.flatnonzero((mem.page_uses(0, mem.nr_blocks) == Use.RESERVED).any(axis=1))
    early = early[mem.zone[early] == zone.index + 1]
    region = mem.page_uses(int(early[0]) & ~1, 2)
    assert np.unique(region).tolist() == [Use.BUDDY, Use.RESERVED, Use.PAGE_CACHE]
    assert (region == Use.BUDDY).sum() == unmovable
    assert free_area(mem, zone) == zone_image.free_area


@pytest.mark.parametrize(("kernel", "movable"), [("5.14", True), ("6.1", False), ("6.12", False)])
def test_pageblocks_of_boot_vmemmap_are_unmovable_where_initialisation_is_deferred(
    kernel: str, movable: bool
) -> None:
    recorded = _boot(next(p for p in TRACES if p.name.startswith(f"n_contig_inuse-{kernel}")))
    assert recorded is not None
    for host in (
        machine(4 << 30, kernel=kernel),
        restore_machine(read_machine(recorded["files"], kernel), Call()),
    ):
        types = host.mem.mt[host.mem.use == Use.BOOT_VMEMMAP]
        assert types.size
        assert (types == (Migrate.MOVABLE if movable else Migrate.UNMOVABLE)).all()


def test_an_imported_host_can_be_worked_with() -> None:
    boot = _boot(next(p for p in TRACES if p.name.startswith("i_boot_1g_2m-6.1-HVOon")))
    assert boot is not None
    host = restore_machine(read_machine(boot["files"], "6.1"), Call())
    for command in (c.SetMaxHugePages(9, 300), c.SetMaxHugePages(18, 0), c.SetMaxHugePages(9, 0)):
        assert apply(host, command).error is None
        assert_laws(host)


def test_new_head_frames_lie_close_and_all_eight_boot_frames_of_a_huge_page_are_free() -> None:
    recorded = _boot(next(p for p in TRACES if p.name.startswith("i_boot_2m-6.12.113-HVOon")))
    assert recorded is not None
    host = restore_machine(read_machine(recorded["files"]), Call())
    mem, hs = host.mem, host.hstates[9]
    heads = np.flatnonzero(mem.flags & BlockFlag.OPTIMIZED)
    assert heads.size == hs.nr_optimized == hs.nr_huge_pages > 0
    entries = heads % 64 * 8
    old = (mem.vmemmap_pfn[heads // 64] + entries)[:, None] + np.arange(8)
    assert not np.isin(mem.uses_of(old.ravel()), (Use.BOOT_VMEMMAP, Use.VMEMMAP)).any()
    new = sparse_vmemmap.pte_pfn(sparse_vmemmap.tables(mem, heads // 64)[np.arange(heads.size), entries])
    assert int(new.max() - new.min()) < 2 * heads.size
    assert (mem.uses_of(new) == Use.VMEMMAP).all()


@pytest.mark.parametrize(("kernel", "use"), [("5.14", Use.VMEMMAP_COMPOUND), ("6.1", Use.VMEMMAP)])
def test_the_memmap_of_memory_that_was_added_later_comes_from_the_buddy(kernel: str, use: Use) -> None:
    added = ZoneOf(0, "Movable", 3 << 19, 1 << 18, 1 << 18, 1 << 18, (0,) * 10 + (256,))
    host = restore_machine(read_machine(files_of((*SMALL, added)), kernel), Call())
    assert_laws(host)
    mem = host.mem
    later = np.flatnonzero(mem.hot_added)
    assert later.tolist() == list(range(48, 56))
    assert (mem.use[mem.vmemmap_pfn[later] // 512] == use).all()
    early = (mem.vmemmap_pfn >= 0) & ~mem.hot_added
    assert (mem.use[mem.vmemmap_pfn[early] // 512] == Use.BOOT_VMEMMAP).all()


def test_a_zone_below_early_memory_was_there_at_boot_though_all_of_it_is_managed() -> None:
    image, normal = _zone_of("g_offline_free-5.14", "Normal")
    assert normal.present == normal.managed
    assert not restore_machine(image, Call()).mem.hot_added.any()


def test_contradictory_files_are_refused() -> None:
    boot = _boot(TRACES[0])
    assert boot is not None
    files = dict(boot["files"])
    files["/proc/buddyinfo"] = files["/proc/buddyinfo"].replace("DMA32", "DMA33")
    with pytest.raises(BadInput, match="/proc/buddyinfo"):
        restore_machine(read_machine(files, "5.14"), Call())
