"""``lsmem`` and ``chmem`` of util-linux, unmodified: the memory blocks of a host."""

import json
from pathlib import Path

import pytest

from hugepool import documents
from hugepool.client import Json
from tests.mirror.helpers import MEMORY, Lab, run, skip_without_fuse
from tests.programs.running import beside, in_lab, output, skip_without

BLOCK_BYTES = 128 << 20


@pytest.fixture(autouse=True)
def programs() -> None:
    skip_without("lsmem")
    skip_without("chmem")


def blocks(lab: Lab) -> list[documents.MemoryBlock]:
    return list(lab.client.memory_blocks(lab.name))


def states(lab: Lab) -> dict[int, str]:
    return {block["block"]: block["state"] for block in blocks(lab)}


def as_lsmem_has_it(block: documents.MemoryBlock) -> Json:
    start = block["start_pfn"] * 4096
    return {
        "range": f"0x{start:016x}-0x{start + BLOCK_BYTES - 1:016x}",
        "size": BLOCK_BYTES,
        "state": block["state"],
        "removable": block["removable"] and block["state"] == "online",  # it says nothing of the others
        "block": str(block["block"]),
        "node": block["node"],
    }


def test_lsmem_shows_each_block_with_its_state_and_node(lab: Lab) -> None:
    skip_without_fuse()
    lab.client.set_block_state(lab.name, 5, "offline")
    columns = "RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE"
    shown = json.loads(output(lab, "lsmem", "--json", "--bytes", "--all", "--output", columns))["memory"]
    assert len(shown) == 16
    assert shown == [as_lsmem_has_it(block) for block in blocks(lab)]


def test_lsmem_adds_up_what_is_online_and_offline(lab: Lab) -> None:
    skip_without_fuse()
    for block in (4, 5, 12):
        lab.client.set_block_state(lab.name, block, "offline")
    summary = output(lab, "lsmem", "--bytes", "--summary=only").splitlines()
    found = {name: int(value) for name, value in (line.split(":") for line in summary)}
    assert found == {
        "Memory block size": BLOCK_BYTES,
        "Total online memory": 13 * BLOCK_BYTES,
        "Total offline memory": 3 * BLOCK_BYTES,
    }


def test_lsmem_reads_an_exported_tree_without_fuse(lab: Lab, tmp_path: Path) -> None:
    lab.client.set_block_state(lab.name, 5, "offline")
    assert run(lab.client.url, "export", lab.name, str(tmp_path / "tree")).returncode == 0
    lines = beside("lsmem", "--sysroot", str(tmp_path / "tree"), "--output", "RANGE,STATE,BLOCK").splitlines()
    assert [line.split()[1:] for line in lines[1:4]] == [
        ["online", "0-4"],
        ["offline", "5"],
        ["online", "6-15"],
    ]


def test_lsmem_shows_the_zones_a_block_may_go_to(lab: Lab) -> None:
    skip_without_fuse()
    lab.client.set_block_state(lab.name, 5, "offline")
    rows = output(lab, "lsmem", "--all", "--noheadings", "--summary=never", "--output", "BLOCK,ZONES")
    zones = dict(line.split(maxsplit=1) for line in rows.splitlines())
    assert zones["4"] == "DMA32"
    assert zones["5"].strip() == lab.read(f"/{MEMORY}/memory5/valid_zones").strip().replace(" ", "/")


def test_chmem_takes_a_block_offline_and_brings_it_back(lab: Lab) -> None:
    skip_without_fuse()
    before = lab.client.host(lab.name)["memory"]["total_bytes"]
    done = output(lab, "chmem", "--verbose", "--disable", "-b", "4")
    assert done == "Memory Block 4 (0x0000000020000000-0x0000000027ffffff) disabled\n"
    assert [block for block, state in states(lab).items() if state == "offline"] == [4]
    assert lab.client.host(lab.name)["memory"]["total_bytes"] == before - BLOCK_BYTES
    assert output(lab, "chmem", "--enable", "0x20000000-0x27ffffff") == ""
    assert set(states(lab).values()) == {"online"}
    assert lab.client.audit(lab.name)["ok"]


def test_chmem_hears_busy_where_kernel_pages_are(lab: Lab) -> None:
    skip_without_fuse()
    lab.client.start_task(lab.name, {"kind": "kernel", "memory": "200M", "node": 1})
    taken = [b["block"] for b in blocks(lab) if b["node"] == 1 and b["free_pages"] == 0]
    assert taken
    done = in_lab(lab, "chmem", "--disable", "-b", str(taken[0]))
    assert done.returncode == 1
    assert f"chmem: Memory Block {taken[0]} (" in done.stderr
    assert done.stderr.endswith("disable failed: Device or resource busy\n")
    assert set(states(lab).values()) == {"online"}


def test_chmem_hears_out_of_memory_where_huge_pages_get_no_vmemmap(lab: Lab) -> None:
    skip_without_fuse()
    lab.client.resize(lab.name, "2048kB", 400, node=0)
    lab.client.set_fault(lab.name, "vmemmap-restore", {"probability": 100, "times": -1})
    full = [b["block"] for b in blocks(lab) if b["hugepages"]["2048kB"] == 64]
    assert full
    pool = lab.pool()
    done = in_lab(lab, "chmem", "--disable", "-b", str(full[0]))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("disable failed: Cannot allocate memory\n")
    assert (set(states(lab).values()), lab.pool()) == ({"online"}, pool)


def test_chmem_takes_what_it_can_of_a_size_and_says_when_that_is_less(lab: Lab) -> None:
    skip_without_fuse()
    lab.client.start_task(lab.name, {"kind": "kernel", "memory": "200M", "node": 0})
    done = in_lab(lab, "chmem", "--disable", "2G")
    gone = [block for block, state in states(lab).items() if state == "offline"]
    assert 0 < len(gone) < 16
    assert done.returncode != 0
    assert f"Could only disable {len(gone) * 128 / 1024:.1f}" in done.stderr
    assert lab.client.audit(lab.name)["ok"]
