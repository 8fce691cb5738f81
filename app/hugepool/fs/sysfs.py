"""The files of /sys as records: nodes and memory blocks.

Source: drivers/base/node.c, drivers/base/memory.c (5.14); docs/kernel-rules.md 1.3 and 7.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hugepool.fs.consistency import BLOCKS, NODES
from hugepool.fs.procfs import MAX_NODES
from hugepool.fs.textfile import MAX_PAGES, Line, number_list, single
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import PAGE_SHIFT, SECTION_PAGES

BLOCK_STATES = ("online", "offline", "going-offline")

_NODE_FILE = re.compile(rf"{NODES}/node([0-9]+)/([a-z]+)")
_BLOCK_FILE = re.compile(rf"{BLOCKS}/memory([0-9]+)/([a-z0-9_]+)")
_BLOCK_OF_NODE = re.compile(rf"{NODES}/node([0-9]+)/memory([0-9]+)")
_ZONE_WORDS = frozenset({"DMA", "DMA32", "Normal", "Movable", "Device", "none"})


@dataclass(slots=True)
class NodeFiles:
    """What the node folders tell: CPUs and distances where given, and every node number seen."""

    nids: set[int] = field(default_factory=set)
    cpus: dict[int, list[int]] = field(default_factory=dict)
    distance: dict[int, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class BlockFiles:
    """What the memory folder tells: blocks as in ``MachineImage.blocks``."""

    block_pages: int | None = None
    blocks: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)
    auto_online: str = "offline"


# -- nodes -----------------------------------------------------------------------------------------------


def node_in_path(path: str, word: str) -> int:
    """The number of a node in a path.  Raises BadInput."""
    return Line(path, 1, word).count(word, "the node number", MAX_NODES - 1)


def read_nodes(files: Mapping[str, str]) -> NodeFiles:
    """Node numbers, CPUs and distances of /sys/devices/system/node."""
    found = NodeFiles()
    for path in files:
        match = _NODE_FILE.fullmatch(path)
        if match is None:
            continue
        nid = node_in_path(path, match[1])
        found.nids.add(nid)
        if match[2] == "cpulist":
            found.cpus[nid] = _cpulist(files, path)
        elif match[2] == "distance":
            found.distance[nid] = _distance(files, path)
    owners = [cpu for cpus in found.cpus.values() for cpu in cpus]
    if len(owners) != len(set(owners)):
        raise BadInput("a CPU belongs to two nodes", where=f"{NODES}/node{max(found.cpus)}/cpulist:1")
    return found


def _cpulist(files: Mapping[str, str], path: str) -> list[int]:
    if not files[path].strip():
        return []
    line = single(files, path)
    return number_list(line, line.text) if line else []


def _distance(files: Mapping[str, str], path: str) -> list[int]:
    line = single(files, path)
    return [line.count(word, "a distance", 255) for word in line.text.split()] if line else []


# -- memory blocks ---------------------------------------------------------------------------------------


def read_blocks(files: Mapping[str, str]) -> BlockFiles:
    """The memory blocks of /sys/devices/system/memory, with their nodes where the links are given.

    Raises:
        BadInput: an unknown state or zone, a block without state, a block size that x86-64 cannot have.
    """
    found = BlockFiles(block_pages=_block_pages(files))
    auto = single(files, f"{BLOCKS}/auto_online_blocks")
    if auto is not None:
        found.auto_online = auto.text
    owner = _block_owners(files)
    numbers = {int(match[1]) for match in map(_BLOCK_FILE.fullmatch, files) if match}
    if numbers and found.block_pages is None:
        raise BadInput("the file is missing, and memory blocks are there", where=f"{BLOCKS}/block_size_bytes")
    for number in sorted(numbers):
        found.blocks[number] = _block(files, number, found.block_pages or 1, owner.get(number))
    return found


def _block_pages(files: Mapping[str, str]) -> int | None:
    line = single(files, f"{BLOCKS}/block_size_bytes")
    if line is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{1,16}", line.text):
        line.fail(f"{line.text[:40]!r} is not a hexadecimal number without 0x")
    pages, rest = divmod(int(line.text, 16), 1 << PAGE_SHIFT)
    if rest or pages % SECTION_PAGES or not 0 < pages <= MAX_PAGES or pages & (pages - 1):
        line.fail(f"{line.text} is not a block size of x86-64: 128 MiB (8000000) times a power of two")
    return pages


def _block_owners(files: Mapping[str, str]) -> dict[int, int | None]:
    """The node of each block that has a link; None where two nodes share it: then their zones say whose a part is."""
    owner: dict[int, int | None] = {}
    for path in files:
        match = _BLOCK_OF_NODE.fullmatch(path)
        link = _BLOCK_FILE.fullmatch(path)
        if match:
            number, nid = int(match[2]), node_in_path(path, match[1])
        elif link and re.fullmatch("node[0-9]+", link[2]):
            number, nid = int(link[1]), node_in_path(path, link[2][4:])
        else:
            continue
        owner[number] = nid if owner.get(number, nid) == nid else None
    return owner


def _block(files: Mapping[str, str], number: int, pages: int, nid: int | None) -> tuple[str, str, int | None]:
    folder = f"{BLOCKS}/memory{number}"
    if (number + 1) * pages > MAX_PAGES:
        raise BadInput(f"block {number} lies above 64 TiB", where=f"{folder}/state:1")
    state = single(files, f"{folder}/state")
    if state is None:
        raise BadInput("the file is missing, and its neighbours are there", where=f"{folder}/state")
    if state.text not in BLOCK_STATES:
        state.fail(f"{state.text[:40]!r} is not a state of a memory block: {', '.join(BLOCK_STATES)}")
    zones = single(files, f"{folder}/valid_zones")
    if zones is not None and not set(zones.text.split()) <= _ZONE_WORDS:
        zones.fail(f"{zones.text[:40]!r} is not a list of zones")
    return state.text, zones.text if zones else "", nid
