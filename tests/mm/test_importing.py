"""Importing real machines: every recorded boot, cell by cell."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hugepool.fs.machine import read_machine
from hugepool.mm.boot.buddy_fill import Filler, fill_zone
from hugepool.mm.boot.image import MachineImage, ZoneImage
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.huge_blocks import find_huge_blocks
from hugepool.mm.kernel.page_alloc import find_free_blocks, free_area
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import MemoryMap, Migrate, Use, Zone
from hugepool.mm.machine.state import Call
from hugepool.mm.views.vmstat import block_states, mem_total_pages
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
    assert (mem.mt[everything[-2:]] == Migrate.UNMOVABLE).all()


def test_unmovable_free_blocks_of_zone_movable_lie_beside_early_memory() -> None:
    image, zone_image = _zone_of("g_offline_inuse-6.1-HVOoff", "Movable")
    assert zone_image.free_by_type is not None
    unmovable = sum(n << order for order, n in enumerate(zone_image.free_by_type[Migrate.UNMOVABLE]))
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


def _open_zone(pages: int) -> tuple[MemoryMap, Zone]:
    mem = MemoryMap(-(-pages // (1 << 15)), 2)
    zone = Zone(0, 0, 2, 0, pages, pages)
    mem.add_zone(zone)
    mem.zone[: pages // 512] = 1
    mem.use[: pages // 512] = Use.RESERVED
    return mem, zone


@pytest.mark.parametrize(
    "wanted",
    [
        [0] * 10 + [7],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3],
        [400, 200, 3, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0],
        [3, 0, 9, 0, 0, 2, 0, 0, 4, 0, 2],
    ],
)
def test_free_blocks_are_placed_so_that_no_two_buddies_meet(wanted: list[int]) -> None:
    pages = 1 << 13
    mem, zone = _open_zone(pages)
    free = sum(n << order for order, n in enumerate(wanted))
    assert fill_zone(mem, zone, wanted, [Filler(Use.SYSTEM, pages - free)], {}, [])
    assert free_area(mem, zone) == wanted


def test_blocks_of_the_kernel_are_placed_beside_what_fills_the_top() -> None:
    pages, beside = 1 << 13, 586
    mem, zone = _open_zone(pages)
    wanted, kernel = [1, 1, 0, 0, 1, 0, 1, 1, 2, 0, 6], {Migrate.UNMOVABLE: [1, 1, 0, 0, 0, 0, 1, 1, 1]}
    free = sum(n << order for order, n in enumerate(wanted))
    top = [Filler(Use.PAGE_CACHE, beside - 451), Filler(Use.RESERVED, 1024 - beside)]
    rest = [Filler(Use.SYSTEM, pages - free - sum(filler.pages for filler in top))]
    assert fill_zone(mem, zone, wanted, rest, kernel, top, beside)
    assert free_area(mem, zone) == wanted
    assert (mem.page_uses(14, 2) == Use.BUDDY).sum() == 451
    assert mem.mt[14] == Migrate.UNMOVABLE
    untouched, same_zone = _open_zone(pages)
    too_few = [Filler(Use.PAGE_CACHE, 0), Filler(Use.RESERVED, 1024 - 451)]
    assert not fill_zone(untouched, same_zone, wanted, rest, kernel, too_few, 100)
    assert (untouched.use[: pages // 512] == Use.RESERVED).all()


def test_what_cannot_be_placed_is_refused() -> None:
    mem, zone = _open_zone(1 << 13)
    assert not fill_zone(mem, zone, [0] * 9 + [16, 0], [], {}, [])  # 16 blocks of order 9 must meet
    assert not fill_zone(mem, zone, [0] * 10 + [1], [Filler(Use.SYSTEM, 5)], {}, [])  # numbers do not add up


def test_contradictory_files_are_refused() -> None:
    boot = _boot(TRACES[0])
    assert boot is not None
    files = dict(boot["files"])
    files["/proc/buddyinfo"] = files["/proc/buddyinfo"].replace("DMA32", "DMA33")
    with pytest.raises(BadInput, match="/proc/buddyinfo"):
        restore_machine(read_machine(files, "5.14"), Call())
