"""An imported machine's page cache: what of it is clean, and what the files show once it is gone."""

import re
from pathlib import Path

from hugepool.fs.machine import read_machine
from hugepool.fs.procfs import parse_counters, parse_meminfo
from hugepool.fs.render import render
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.commands import commands as c
from hugepool.mm.kernel.filemap import held
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.state import Call, Host
from hugepool.replay.trace import load
from tests.mm.hosts import assert_laws, do, free_pages

TRACE = Path(__file__).parents[1] / "data" / "traces" / "t_cache_grow_90-6.1-HVOon.json.gz"
CACHED, MAPPED = 3000, 500  # pages


def with_cache() -> Host:
    """The recorded guest, had it read some files: of its used pages that many are in the cache."""
    files = dict(load(TRACE).files or {})
    zoneinfo = files["/proc/zoneinfo"]
    zone = zoneinfo.index("zone    DMA32")
    text = zoneinfo[zone:]
    for name, pages in (("nr_zone_inactive_file", CACHED), ("nr_zone_active_file", 0)):
        text = re.sub(rf"{name} +\d+", f"{name} {pages}", text, count=1)
    head = re.sub(r"nr_mapped +\d+", f"nr_mapped {MAPPED}", zoneinfo[:zone], count=1)
    head = re.sub(r"nr_(dirty|writeback) +\d+", r"nr_\1 0", head)
    meminfo = re.sub(r"(Inactive\(file\):) +\d+", rf"\1 {CACHED * 4:8d}", files["/proc/meminfo"])
    meminfo = re.sub(r"(Cached:) +\d+", rf"\1 {CACHED * 4:16d}", meminfo, count=1)
    files |= {"/proc/zoneinfo": head + text, "/proc/meminfo": meminfo}
    return restore_machine(read_machine(files, "6.1"), Call())


def meminfo(host: Host) -> dict[str, int]:
    return parse_meminfo("/proc/meminfo", render(host, "/proc/meminfo"))


def test_what_is_neither_mapped_nor_dirty_can_be_dropped_and_the_files_follow() -> None:
    host = with_cache()
    assert held(host, Use.PAGE_CACHE) == CACHED - MAPPED
    before, free = meminfo(host), free_pages(host)
    assert before["Inactive(file)"] == CACHED * 4
    dropped = do(host, c.DropCaches(1))
    assert dropped == {"cache_pages": CACHED - MAPPED, "slab_pages": 0}
    after = meminfo(host)
    assert free_pages(host) == free + CACHED - MAPPED
    assert after["Inactive(file)"] == MAPPED * 4
    assert before["Cached"] - after["Cached"] == (CACHED - MAPPED) * 4
    assert_laws(host)


def test_reclaimable_kernel_objects_are_dropped_with_the_second_bit() -> None:
    host = with_cache()
    before = parse_counters("/proc/vmstat", render(host, "/proc/vmstat"))["nr_slab_reclaimable"]
    slab = held(host, Use.SLAB)
    assert 0 < slab <= before
    shown = meminfo(host)["SReclaimable"]
    assert do(host, c.DropCaches(2))["slab_pages"] == slab
    assert shown - meminfo(host)["SReclaimable"] == slab * 4
    assert_laws(host)
