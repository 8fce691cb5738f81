"""Machines that are not modelled: other architectures and other page sizes, known by what their files show."""

from collections.abc import Mapping, Sequence

from hugepool.fs.consistency import MEMINFO
from hugepool.fs.procfs import ZoneText
from hugepool.fs.textfile import single
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import ZONE_NAMES
from hugepool.mm.machine.units import DMA32_END, DMA_END, order_of

ARCH = "/proc/sys/kernel/arch"
MODELLED = "hugepool models x86-64 with pages of 4 KiB: collect from such a machine"
ENDS = {"DMA": (DMA_END, "16 MiB"), "DMA32": (DMA32_END, "4 GiB")}
PAGE_KB = (16, 64)


def check_architecture(files: Mapping[str, str]) -> None:
    """Refuse what /proc/sys/kernel/arch (6.1 and later) says to be of another architecture."""
    line = single(files, ARCH)
    if line is not None and line.text != "x86_64":
        line.fail(f"the machine is {line.text[:40]!r}; {MODELLED}")


def check_page_size(zones: Sequence[ZoneText], mem_total_kb: int, where: str) -> None:
    """Refuse pages of 16 or 64 KiB: then MemTotal is 4 or 16 times what the zones manage."""
    managed = sum(zone.levels["managed"] for zone in zones)
    for size in PAGE_KB:
        if managed and abs(mem_total_kb / managed - size) < size / 50:
            raise BadInput(
                f"the machine has pages of {size} KiB, as some of arm64 and ppc64: MemTotal is {mem_total_kb} kB, and "
                f"the zones manage {managed} pages; {MODELLED}", where=where
            )  # fmt: skip


def is_modelled(zone: ZoneText) -> bool:
    """Whether a zone is one of the buddy's on x86-64; False for one without memory of its own.

    ZONE_DEVICE spans the memory of devices (pmem, CXL, GPUs) and has no present pages.

    Raises:
        BadInput: the zone has memory, and x86-64 has no such zone there.
    """
    name, level = f"zone {zone.name} of node {zone.nid}", zone.levels
    if zone.name not in ZONE_NAMES:
        if level["present"] or level["managed"]:
            zone.line.fail(
                f"{name} has memory; x86-64 has memory in {', '.join(ZONE_NAMES)} only; {MODELLED}"
            )
        return False
    end, word = ENDS.get(zone.name, (None, ""))
    if end is not None and level["present"] and zone.start_pfn + level["spanned"] > end:
        zone.line.fail(
            f"{name} ends at page {zone.start_pfn + level['spanned']}, but that of x86-64 ends at {word}: this is "
            f"another architecture, such as arm64; {MODELLED}"
        )
    return True


def default_order(meminfo: Mapping[str, int]) -> int:
    """The order of the default huge page size.

    Raises:
        BadInput: a size that x86-64 does not have.
    """
    size = meminfo.get("Hugepagesize")
    if size is None:
        return 9
    order = order_of(f"{size}kB")
    if order is None:
        raise BadInput(
            f"Hugepagesize is {size} kB, but x86-64 has 2048 and 1048576: this is another architecture, such as arm64; "
            f"{MODELLED}", where=MEMINFO
        )  # fmt: skip
    return order
