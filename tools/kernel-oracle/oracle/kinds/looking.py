"""Looking, waiting, and what is done from outside the guest: DIMMs."""

import time
from collections.abc import Callable
from typing import Any

from oracle.guest import Guest
from oracle.kernels import OracleError
from oracle.steps import Answer, Fields, answer, by_task, kind

BLOCK_PAGES = 32768
NORMAL = 2
PLUG_SECONDS = 5
OBSERVED = {"node": None, "zone_index": None, "args": None, "task": None, "map": None}


@kind("wait", "ms")
def _wait(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(guest.call("wait", op["ms"], timeout=timeout + op["ms"] / 1000))


@kind("observe", "what", OBSERVED, reads_out=False)
def _observe(guest: Guest, op: Fields, timeout: float) -> Answer:
    look = LOOKS.get(op["what"])
    if look is None:
        raise OracleError(f"observe: what is one of {', '.join(LOOKS)}, not {op['what']!r}")
    return look(guest, op, timeout)


def _allocatable(guest: Guest, op: Fields, timeout: float) -> Answer:
    node, zone = op.get("node"), op.get("zone_index", NORMAL)
    reply = guest.call("allocatable", -1 if node is None else node, zone, timeout=timeout)
    return answer(reply, node=node, zone_index=zone, pages=reply.result)


def _pages_by_block(guest: Guest, _op: Fields, timeout: float) -> Answer:
    reply = guest.call("pages-by-block", BLOCK_PAGES, timeout=timeout)
    rows = [line.split() for line in reply.text.splitlines()]
    blocks = {f"memory{r[1]}": dict(zip(r[2::2], map(int, r[3::2]), strict=True)) for r in rows}
    return answer(reply, args=[BLOCK_PAGES], data=blocks)


def _hugepage_heads(guest: Guest, op: Fields, timeout: float) -> Answer:
    low, high = op.get("args") or ("0x0", "0x1000000")
    reply = guest.call("hugepage-heads", low, high, timeout=timeout)
    return answer(reply, args=[low, high], data=reply.text)


def _pfns_of_map(guest: Guest, op: Fields, timeout: float) -> Answer:
    reply = by_task(guest, op, timeout, "pfns", op["map"])
    return answer(reply, data=reply.text)


LOOKS = {
    "allocatable": _allocatable,
    "pages-by-block": _pages_by_block,
    "hugepage-heads": _hugepage_heads,
    "pfns-of-map": _pfns_of_map,
}


@kind("plug", "dimm", {"node": None})
def _plug(guest: Guest, op: Fields, _timeout: float) -> Answer:
    """Hot-add a DIMM of the machine.  It is done from outside the guest, so it is recorded as a wait."""
    node = {"node": op["node"]} if "node" in op else {}
    guest.monitor("device_add", driver="pc-dimm", id=f"dimm{op['dimm']}", memdev=f"d{op['dimm']}", **node)
    seconds = _settle(guest, lambda: False)
    return _from_outside(op, seconds, f"DIMM {op['dimm']} hot-added")


@kind("unplug", "dimm")
def _unplug(guest: Guest, op: Fields, _timeout: float) -> Answer:
    """Ask the guest to give a DIMM back.  It may refuse, and put blocks that went offline online again."""

    def is_gone() -> bool:
        return device not in str(guest.monitor("query-memory-devices"))

    device = f"dimm{op['dimm']}"
    guest.monitor("device_del", id=device)
    seconds = _settle(guest, is_gone)
    gone = is_gone()
    return _from_outside(
        op, seconds, f"DIMM {op['dimm']} {'removed' if gone else 'not given back'}", gone=gone
    )


def _settle(guest: Guest, done: Callable[[], bool]) -> int:
    """Give the guest's driver up to five seconds, and have the agent look which blocks there are; the seconds."""
    seconds = 0
    while seconds < PLUG_SECONDS and not done():
        time.sleep(1)
        seconds += 1
    guest.call("rescan")
    return seconds


def _from_outside(op: Fields, seconds: int, label: str, **facts: Any) -> Answer:
    outside = {op.pop("do"): op.pop("dimm"), **facts}
    return Answer(0, None, {"do": "wait", "ms": 1000 * seconds, "outside": outside, "label": label})
