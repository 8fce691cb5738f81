"""Copies of a host, and the number that says whether two hosts are equal.

Both follow from the fields that the state declares: a field that is added is copied and compared.  What is left out
is listed in ``DERIVED``, each with what it follows from.
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.mmzone import MemoryMap, Node, Use, Zone
from hugepool.mm.machine.pcp_lists import PageList, PerCpuPages
from hugepool.mm.machine.state import FreeList, Host

DERIVED: dict[type, frozenset[str]] = {
    Host: frozenset({"profile", "mapcounts", "cpu"}),  # for it stands the kernel's name; counted; who runs
    Node: frozenset({"zones"}),  # they are the memory map's
    Zone: frozenset({"nr_free_cma", "nr_isolated", "pcp_disabled"}),  # recounted from the pages
    PerCpuPages: frozenset({"lists"}),  # compared without those that are empty
    MemoryMap: frozenset(
        {
            "dirty",  # what is to be saved, not what is there
            "seq",  # the free lists have this order
            "slot", "detail", "spare_slots",  # where the uses of a mixed pageblock are kept; compared by value
            "pte_slot", "pte", "nr_pte_rows",  # the same for page tables
            "cma_blocks", "isolated_blocks",  # from migratetypes and flags
            "block_hint", "page_hint", "lone_span", "rare_span",  # where a search begins
            "order",  # compared by zone, whatever the stamps are
        }
    ),
}  # fmt: skip


def fork(host: Host) -> Host:
    """An independent copy of a host."""
    return copy.deepcopy(host)


def digest(host: Host) -> str:
    """SHA-256 over the whole state: equal digests, equal machines."""
    h = hashlib.sha256()
    _feed(h, host)
    return h.hexdigest()


def _feed(h: Any, value: Any) -> None:
    """Add a value to a hash: of every kind in one form, so that equal values of other containers are equal."""
    if isinstance(value, MemoryMap):
        _feed_memory(h, value)
    elif isinstance(value, np.ndarray):
        h.update(f"{value.dtype.str}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, (FreeList, PageList)):
        _feed(h, value.items())
    elif isinstance(value, PerCpuPages):  # a list that is empty is as good as none
        _feed_mapping(h, {number: listed for number, listed in value.lists.items() if listed.size})
        _feed_list(h, [getattr(value, name) for name in stated_fields(value)])
    elif is_dataclass(value) and not isinstance(value, type):
        for name in stated_fields(value):
            h.update(name.encode())
            _feed(h, getattr(value, name))
    elif isinstance(value, Mapping):
        _feed_mapping(h, value)
    elif isinstance(value, (list, tuple)):
        _feed_list(h, value)
    elif isinstance(value, (set, frozenset)):
        _feed_list(h, sorted(value))
    else:
        h.update(_scalar(value).encode() + b";")


def _feed_mapping(h: Any, value: Mapping[Any, Any]) -> None:
    h.update(f"{{{len(value)}".encode())
    if all(type(item) is int for item in value.values()):
        h.update(repr(sorted(value.items())).encode())
        return
    for key in sorted(value):
        _feed(h, key)
        _feed(h, value[key])


def _feed_list(h: Any, value: Any) -> None:
    h.update(f"[{len(value)}".encode())
    if value and type(value[0]) is int:
        h.update(repr(list(value)).encode())
        return
    for item in value:
        _feed(h, item)


def _scalar(value: Any) -> str:
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, np.generic):
        return repr(value.item())
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise TypeError(f"no digest of a {type(value).__name__}")


def stated_fields(value: Any) -> list[str]:
    """Names of the fields that are state of their own, for a dataclass or the memory map."""
    names = vars(value) if isinstance(value, MemoryMap) else [field.name for field in fields(value)]
    left_out = DERIVED.get(type(value), frozenset())
    return [name for name in names if name not in left_out]


def _feed_memory(h: Any, mem: MemoryMap) -> None:
    for name in stated_fields(mem):
        h.update(name.encode())
        _feed(h, getattr(mem, name))
    placed = np.flatnonzero((mem.order.stamp != 0) & (mem.use == Use.BUDDY))
    for zone in mem.zones:
        ordered = mem.order.sorted(placed[mem.zone[placed] == zone.id])
        _feed(h, ordered)
        _feed(h, np.sign(mem.order.stamp[ordered]))
    mixed = np.flatnonzero(mem.slot)
    _feed(h, mem.detail[mem.slot[mixed]])
    split = np.flatnonzero(mem.pte_slot)
    _feed(h, split)
    _feed(h, sparse_vmemmap.tables(mem, split))
