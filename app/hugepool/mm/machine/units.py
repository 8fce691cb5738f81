"""Sizes of the simulated x86-64 machine, and the parsing of sizes as the kernel command line writes them.

Source: include/linux/mmzone.h, arch/x86/include/asm/sparsemem.h, lib/cmdline.c memparse() (5.14).
"""

from collections.abc import Iterable

from hugepool.mm.machine.errors import BadInput

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT  # bytes
KB_PER_PAGE = PAGE_SIZE // 1024  # the kernel writes kB and means KiB
PAGEBLOCK_ORDER = 9
PAGEBLOCK_PAGES = 1 << PAGEBLOCK_ORDER  # 2 MiB
MAX_BUDDY_ORDER = 10  # orders 0..10: the largest buddy block is 4 MiB
NR_ORDERS = MAX_BUDDY_ORDER + 1
MAX_ORDER_PAGES = 1 << MAX_BUDDY_ORDER
SECTION_PAGES = 1 << 15  # 128 MiB: one PMD entry of vmemmap
BLOCKS_PER_SECTION = SECTION_PAGES // PAGEBLOCK_PAGES  # 64
PTRS_PER_PTE = 512
STRUCT_PAGE_BYTES = 64
VMEMMAP_BASE = 0xFFFFEA0000000000  # four-level paging, no KASLR
VMEMMAP_PER_BLOCK = PAGEBLOCK_PAGES * STRUCT_PAGE_BYTES // PAGE_SIZE  # 8 vmemmap pages a pageblock
ORDER_2M = 9
ORDER_1G = 18
BLOCKS_PER_1G = 1 << (ORDER_1G - PAGEBLOCK_ORDER)  # 512
SECTIONS_PER_1G = (1 << ORDER_1G) // SECTION_PAGES  # 8
ULONG_MAX = (1 << 64) - 1
GIB_PAGES = 1 << 18
DMA_END = 4096  # first page that 24 address bits do not reach
DMA32_END = 4 * GIB_PAGES  # first page that 32 address bits do not reach

_SUFFIX = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


def pages_by_order(counts: Iterable[int]) -> int:
    """Pages in a number of blocks of order 0, 1, 2 ..."""
    return sum(int(count) << order for order, count in enumerate(counts))


def memparse(text: str) -> int:
    """Parse a size such as ``64G``, ``512M``, ``0x1000`` or ``4096`` into bytes.

    Raises:
        BadInput: not a number with at most one of the suffixes K, M, G, T, P, E, or above 2**64-1.
    Source: lib/cmdline.c memparse() (5.14), but strict about trailing text.
    """
    body = text.strip()
    shift = 0
    if body and body[-1].lower() in _SUFFIX and not body.lower().startswith("0x"):
        shift = _SUFFIX[body[-1].lower()]
        body = body[:-1]
    try:
        value = int(body, 16) if body.lower().startswith("0x") else int(body, 10)
    except ValueError:
        raise BadInput(f"{text!r} is not a size: write bytes, or a number with K, M, G or T") from None
    value <<= shift
    if not body.isascii() or "_" in body or not 0 <= value <= ULONG_MAX:
        raise BadInput(f"{text!r} is not a size between 0 and 2**64-1 bytes")
    return value


def size_name(order: int) -> str:
    """The sysfs word of a huge page size: ``2048kB`` for order 9."""
    return f"{(PAGE_SIZE << order) // 1024}kB"


_ORDERS = {size_name(order): order for order in (ORDER_2M, ORDER_1G)}


def order_of(name: str) -> int | None:
    """The order of a sysfs size word, or None when no hstate of the machine has it."""
    return _ORDERS.get(name)


def pretty_size(order: int) -> str:
    """The size as the console prints it: ``2.00 MiB``, ``1.00 GiB``."""
    return {ORDER_2M: "2.00 MiB", ORDER_1G: "1.00 GiB"}[order]
