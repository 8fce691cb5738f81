"""Importing real machines: every recorded boot, cell by cell."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from app.fs.machine import read_machine
from app.mm import commands as c
from app.mm.buddy_fill import Filler, fill_zone
from app.mm.errors import BadInput
from app.mm.host import apply
from app.mm.huge_blocks import find_huge_blocks
from app.mm.mmzone import MemoryMap, Migrate, Use, Zone
from app.mm.page_alloc import find_free_blocks, free_area
from app.mm.snapshot import restore_machine
from app.mm.state import Call
from app.mm.vmstat import block_states, mem_total_pages
from tests.mm.hosts import assert_laws

TRACES = sorted((Path(__file__).parents[1] / "data" / "traces").glob("*.json.gz"))


def _boot(path: Path) -> dict[str, Any] | None:
    trace = json.loads(gzip.decompress(path.read_bytes()))
    return {**trace["boot"], "kernel": trace["kernel"]} if trace["boot"]["files"] else None


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
    boot = _boot(next(p for p in TRACES if p.name.startswith("f_reserve-6.1-HVOon")))
    assert boot is not None
    image = read_machine(boot["files"], "6.1")
    zone_image = next(zone for zone in image.zones if zone.name == "DMA32")
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
