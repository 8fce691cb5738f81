"""/proc/pagetypeinfo as records: free blocks and pageblocks of each zone by migratetype.

Source: mm/vmstat.c pagetypeinfo_show() (5.14).
"""

import re
from dataclasses import dataclass, field

from hugepool.fs.procfs import ZoneKey, node_number
from hugepool.fs.textfile import Line, lines
from hugepool.mm.machine.units import NR_ORDERS, PAGEBLOCK_ORDER

MIGRATE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
CAP = 100_000  # since 5.4 the kernel stops counting here, and writes >100000

_TYPE_LINE = re.compile(rf"Node +([0-9]+), zone +(\S+), type +(\S+)((?: +>?[0-9]+){{{NR_ORDERS}}}) *")
_BLOCKS_LINE = re.compile(r"Node +([0-9]+), zone +(\S+)((?: +\S+)+) *")
_PLAIN = ("Page", "Free pages count")


@dataclass(slots=True)
class TypesText:
    """What the file says, by node and zone; types in the order of ``MIGRATE_NAMES``.

    ``free``: free blocks by type and order, None for a count that the kernel capped; ``blocks``: pageblocks by
    type; ``names``: the columns that the file has; ``capped``: the kernel caps its counts.
    """

    free: dict[ZoneKey, list[list[int | None]]] = field(default_factory=dict)
    blocks: dict[ZoneKey, list[int]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    capped: bool = True


def parse_pagetypeinfo(path: str, text: str) -> TypesText:
    """Read the file; an empty text gives an empty record.

    Raises:
        BadInput: a line that the file does not have, an unknown type, a zone that is there twice.
    """
    found = TypesText()
    for line in lines(path, text):
        listed = _TYPE_LINE.fullmatch(line.text)
        if listed:
            _put_free(found, line, listed)
        elif line.text.startswith("Page block order:"):
            _check_order(line)
        elif line.text.startswith("Number of blocks type"):
            found.names = _names(line)
        elif line.text.startswith("Node"):
            _put_blocks(found, line)
        elif not line.text.startswith(_PLAIN):
            line.fail(f"{line.text[:60]!r} is not a line of pagetypeinfo")
    return found


def _check_order(line: Line) -> None:
    word = line.text.split()[-1]
    if word != str(PAGEBLOCK_ORDER):
        line.fail(f"pageblocks of order {word[:20]}; x86-64 has order {PAGEBLOCK_ORDER}")


def _names(line: Line) -> tuple[str, ...]:
    names = tuple(line.text.split()[4:])
    if unknown := set(names) - set(MIGRATE_NAMES):
        line.fail(f"unknown migratetype {min(unknown)[:40]!r}")
    return names


def _put_free(found: TypesText, line: Line, match: re.Match[str]) -> None:
    key, name = (node_number(line, match[1]), match[2]), match[3]
    if name not in MIGRATE_NAMES:
        line.fail(f"unknown migratetype {name[:40]!r}")
    rows = found.free.setdefault(key, [[0] * NR_ORDERS for _ in MIGRATE_NAMES])
    counts = [None if word[0] == ">" else line.pages(word, f"a count of {name}") for word in match[4].split()]
    rows[MIGRATE_NAMES.index(name)] = counts
    found.capped &= all(count is None or count <= CAP for count in counts)


def _put_blocks(found: TypesText, line: Line) -> None:
    match = _BLOCKS_LINE.fullmatch(line.text)
    if match is None or not found.names:
        line.fail(f"{line.text[:60]!r} is not a line of pagetypeinfo")
    key, words = (node_number(line, match[1]), match[2]), match[3].split()
    if len(words) != len(found.names):
        line.fail(f"{len(found.names)} columns are expected, found {len(words)}")
    if key in found.blocks:
        line.fail(f"zone {key[1]} of node {key[0]} is there twice")
    by_name = {name: line.pages(word, name) for name, word in zip(found.names, words, strict=True)}
    found.blocks[key] = [by_name.get(name, 0) for name in MIGRATE_NAMES]
