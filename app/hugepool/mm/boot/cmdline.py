"""The kernel command line: real words, parsed and obeyed as the booted version does.

Source: mm/hugetlb.c hugepages_setup(), hugepagesz_setup(), default_hugepagesz_setup();
mm/hugetlb_vmemmap.c early_hugetlb_free_vmemmap_param() (5.14); core_param in 6.1; mm/page_alloc.c
cmdline_parse_kernelcore().
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.profile import KernelProfile
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, memparse

_SIZES = {1 << 21: ORDER_2M, 1 << 30: ORDER_1G}


@dataclass(slots=True)
class BootParams:
    """What the command line asks for.

    ``hugepages``: pages per order (a plain count, or counts per node); ``lines``: what the
    console says about wrong words; ``kernelcore``/``movablecore``: bytes, or a percentage as negative number.
    """

    free_vmemmap: bool
    default_order: int = ORDER_2M
    hugepages: dict[int, int | dict[int, int]] = field(default_factory=dict)
    seen_orders: list[int] = field(default_factory=list)
    kernelcore: int | None = None
    movablecore: int | None = None
    movable_node: bool = False
    hugetlb_cma: str | None = None
    hugetlb_cma_only: bool = False
    alloc_threads: int | None = None
    cma: str | None = None
    memmap_on_memory: bool = False
    auto_online_blocks: str = "offline"
    thp: bool = True
    lines: list[str] = field(default_factory=list)


def parse_cmdline(text: str, profile: KernelProfile, *, default_on: bool) -> BootParams:
    """Parse a command line.

    Wrong words get the kernel's console line and its fallback; nothing of a command line is refused but
    control characters.  ``default_on``: CONFIG_HUGETLB_PAGE_FREE_VMEMMAP_DEFAULT_ON.
    """
    if len(text) > 4096 or any(ord(c) < 32 and c != "\t" for c in text.rstrip("\n")):
        raise BadInput("must be one line of at most 4096 characters", where="cmdline")
    params = BootParams(free_vmemmap=default_on)
    state = _HugeState()
    for word in re.findall(r'(?:[^\s"]|"[^"]*")+', text):
        name, eq, value = word.partition("=")
        value = value.strip('"')
        handler = _HANDLERS.get(name)
        if handler:
            handler(params, state, profile, value if eq else None)
    _settle_default(params, state)
    return params


@dataclass(slots=True)
class _HugeState:
    valid_size: bool = True
    order: int | None = None
    last_size_had_count: bool = False
    default_given: bool = False
    default_count: int | dict[int, int] | None = None
    counted: set[int | None] = field(default_factory=set)


def _free_vmemmap(params: BootParams, _s: _HugeState, profile: KernelProfile, value: str | None) -> None:
    if profile.param_parser == "on-off":
        parsed = {"on": True, "off": False}.get(value or "")
    elif profile.param_parser == "early-kstrtobool":
        parsed = kstrtobool(value or "")
    else:
        parsed = True if value is None else kstrtobool(value)
    if parsed is not None:
        params.free_vmemmap = parsed
    elif profile.param_parser == "kstrtobool":
        params.lines.append(f"Booting kernel: `{value}' invalid for parameter `hugetlb_free_vmemmap'")
    else:
        params.lines.append("Malformed early option 'hugetlb_free_vmemmap'")


def kstrtobool(text: str) -> bool | None:
    """y, t, 1, on: true; n, f, 0, of...: false, in any case of letters; None when it is neither.

    Source: lib/kstrtox.c kstrtobool() (6.1).
    """
    first, second = text[:1].lower(), text[1:2].lower()
    if first in ("y", "t", "1"):
        return True
    if first in ("n", "f", "0"):
        return False
    if first == "o":
        return {"n": True, "f": False}.get(second)
    return None


def _hugepagesz(params: BootParams, state: _HugeState, _p: KernelProfile, value: str | None) -> None:
    order = _order(value)
    state.valid_size = False
    if order is None:
        params.lines.append(f"HugeTLB: unsupported hugepagesz={value or ''}")
        return
    if order in params.seen_orders:
        if not (state.default_given and order == params.default_order and order not in params.hugepages):
            params.lines.append(f"HugeTLB: hugepagesz={value} specified twice, ignoring")
            return
    else:
        params.seen_orders.append(order)
    state.valid_size = True
    state.order = order
    state.last_size_had_count = False


def _hugepages(params: BootParams, state: _HugeState, profile: KernelProfile, value: str | None) -> None:
    text = value or ""
    if not state.valid_size:
        params.lines.append(f"HugeTLB: hugepages={text} does not follow a valid hugepagesz, ignoring")
        state.valid_size = True
        return
    if state.last_size_had_count:
        params.lines.append(
            f"HugeTLB: hugepages= specified twice without interleaving hugepagesz=, ignoring hugepages={text}"
        )
        return
    count = _count(text, profile, params)
    state.last_size_had_count = True
    if count is None:
        return
    if state.order is None:
        state.default_count = count
    else:
        params.hugepages[state.order] = count


def _count(text: str, profile: KernelProfile, params: BootParams) -> int | dict[int, int] | None:
    if profile.hugepages_per_node and re.fullmatch(r"\d+:\d+(,\d+:\d+)*", text):
        return {int(n): int(c) for n, c in (pair.split(":") for pair in text.split(","))}
    number = re.match(r"\d+", text)
    if number:
        return min(int(number[0]), (1 << 64) - 1)
    if profile.hugepages_per_node:
        params.lines.append(f"HugeTLB: Invalid hugepages parameter {text}")
        return None
    return 0


def _default_hugepagesz(params: BootParams, state: _HugeState, _p: KernelProfile, value: str | None) -> None:
    if state.default_given:
        params.lines.append(f"HugeTLB: default_hugepagesz previously specified, ignoring {value or ''}")
        return
    order = _order(value)
    state.valid_size = False
    if order is None:
        params.lines.append(f"HugeTLB: unsupported default_hugepagesz={value or ''}")
        return
    state.valid_size = state.default_given = True
    params.default_order = state.order = order
    state.last_size_had_count = False
    if order not in params.seen_orders:
        params.seen_orders.append(order)
    if state.default_count is not None:
        params.hugepages[order] = state.default_count
        state.default_count = None


def _settle_default(params: BootParams, state: _HugeState) -> None:
    if state.default_count is not None:
        params.hugepages.setdefault(params.default_order, state.default_count)


def _order(value: str | None) -> int | None:
    try:
        return _SIZES.get(memparse(value or ""))
    except BadInput:
        return None


def _core(name: str) -> "_Handler":
    def handler(params: BootParams, _s: _HugeState, _p: KernelProfile, value: str | None) -> None:
        text = value or ""
        if text == "mirror":
            return
        try:
            size = -min(100, int(text[:-1])) if text.endswith("%") else memparse(text)
        except (ValueError, BadInput):
            params.lines.append(f"Malformed early option '{name}'")
            return
        setattr(params, name, size)

    return handler


def _word(name: str, meaning: bool | None = None) -> "_Handler":
    def handler(params: BootParams, _s: _HugeState, _p: KernelProfile, value: str | None) -> None:
        setattr(params, name, meaning if meaning is not None else value)

    return handler


def _memmap_on_memory(params: BootParams, _s: _HugeState, _p: KernelProfile, value: str | None) -> None:
    params.memmap_on_memory = bool(value is None or kstrtobool(value))


def _memhp_default_state(params: BootParams, _s: _HugeState, _p: KernelProfile, value: str | None) -> None:
    """What hot-added memory does by itself; other words are ignored.

    Source: mm/memory_hotplug.c setup_memhp_default_state() (5.14).
    """
    if value in ("offline", "online", "online_kernel", "online_movable"):
        params.auto_online_blocks = value


def _thp(params: BootParams, _s: _HugeState, _p: KernelProfile, value: str | None) -> None:
    params.thp = value != "never"


def _hugetlb_cma_only(params: BootParams, _s: _HugeState, profile: KernelProfile, value: str | None) -> None:
    """Source: mm/hugetlb_cma.c cmdline_parse_hugetlb_cma_only() (6.18)."""
    if not profile.hugetlb_cma_only:
        return
    parsed = kstrtobool(value or "")
    if parsed is None:
        params.lines.append("Malformed early option 'hugetlb_cma_only'")
    else:
        params.hugetlb_cma_only = parsed


def _alloc_threads(params: BootParams, _s: _HugeState, _p: KernelProfile, value: str | None) -> None:
    """Source: mm/hugetlb.c hugepage_alloc_threads_setup() (6.15): nothing but a number above 0 counts."""
    if value and value.isdecimal() and int(value):
        params.alloc_threads = int(value)


_Handler = Callable[[BootParams, _HugeState, KernelProfile, str | None], None]
_HANDLERS: dict[str, _Handler] = {
    "hugetlb_free_vmemmap": _free_vmemmap,
    "hugepagesz": _hugepagesz,
    "hugepages": _hugepages,
    "default_hugepagesz": _default_hugepagesz,
    "kernelcore": _core("kernelcore"),
    "movablecore": _core("movablecore"),
    "movable_node": _word("movable_node", True),
    "hugetlb_cma": _word("hugetlb_cma"),
    "hugetlb_cma_only": _hugetlb_cma_only,
    "hugepage_alloc_threads": _alloc_threads,
    "cma": _word("cma"),
    "memory_hotplug.memmap_on_memory": _memmap_on_memory,
    "memhp_default_state": _memhp_default_state,
    "transparent_hugepage": _thp,
}
