"""Writes to /proc/sys/vm that move watermarks or switches.

Source: mm/page_alloc.c min_free_kbytes_sysctl_handler(), lowmem_reserve_ratio_sysctl_handler(),
watermark_scale_factor_sysctl_handler() (5.14); mm/hugetlb_vmemmap.c (6.1).
"""

from hugepool.mm.commands.commands import (
    SetLowmemReserveRatio,
    SetMinFreeKbytes,
    SetOptimizeVmemmap,
    SetWatermarkScaleFactor,
    WriteWithoutEffect,
)
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel.page_alloc import setup_per_zone_lowmem_reserve
from hugepool.mm.kernel.watermarks import setup_wmarks
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.outcomes import (
    LowmemReserveRatio,
    MinFreeKbytes,
    OptimizeVmemmap,
    WatermarkScaleFactor,
    WrittenFile,
)
from hugepool.mm.machine.state import Call, Host

INT_MAX = 2**31 - 1


@handles(SetMinFreeKbytes)
def set_min_free_kbytes(host: Host, call: Call, cmd: SetMinFreeKbytes) -> MinFreeKbytes:
    """Set min_free_kbytes and recompute the watermarks.  Raises EINVAL outside 0..2**31-1."""
    if not 0 <= cmd.kbytes <= INT_MAX:
        raise BadInput(f"must be 0..{INT_MAX}, not {cmd.kbytes}", where="min_free_kbytes")
    host.min_free_kbytes = host.user_min_free_kbytes = cmd.kbytes
    setup_wmarks(host)
    call.emit(Event.WATERMARKS_SET, min_free_kbytes=cmd.kbytes)
    return MinFreeKbytes(cmd.kbytes)


@handles(SetWatermarkScaleFactor)
def set_watermark_scale_factor(host: Host, call: Call, cmd: SetWatermarkScaleFactor) -> WatermarkScaleFactor:
    """Set watermark_scale_factor (in 1/10000 of a zone) and recompute the watermarks."""
    most = host.profile.max_watermark_scale_factor
    if not 1 <= cmd.factor <= most:
        raise BadInput(f"must be 1..{most}, not {cmd.factor}", where="watermark_scale_factor")
    host.watermark_scale_factor = cmd.factor
    setup_wmarks(host)
    call.emit(Event.WATERMARKS_SET, watermark_scale_factor=cmd.factor)
    return WatermarkScaleFactor(cmd.factor)


@handles(SetLowmemReserveRatio)
def set_lowmem_reserve_ratio(host: Host, call: Call, cmd: SetLowmemReserveRatio) -> LowmemReserveRatio:
    """Set the ratios, or (None) recompute the reserves as even a read of the file does."""
    if cmd.ratios is not None:
        if len(cmd.ratios) != 4 or not all(0 <= r <= INT_MAX for r in cmd.ratios):
            raise BadInput("must be four numbers 0..2147483647", where="lowmem_reserve_ratio")
        host.lowmem_reserve_ratio = [0 if r < 1 else r for r in cmd.ratios]
        call.emit(Event.LOWMEM_RESERVE_SET, ratios=list(cmd.ratios))
    setup_per_zone_lowmem_reserve(host.nodes, host.lowmem_reserve_ratio)
    return LowmemReserveRatio(list(host.lowmem_reserve_ratio))


@handles(SetOptimizeVmemmap)
def set_optimize_vmemmap(host: Host, call: Call, cmd: SetOptimizeVmemmap) -> OptimizeVmemmap:
    """Switch vmemmap freeing for later huge pages.  Raises ENOENT on kernels without the switch."""
    if not host.profile.sysctl_optimize or not host.vmemmap_supported:
        raise MMError("ENOENT", "this kernel has no vm.hugetlb_optimize_vmemmap")
    host.optimize_enabled = cmd.enabled
    call.emit(Event.OPTIMIZE_VMEMMAP_SET, enabled=cmd.enabled)
    return OptimizeVmemmap(int(cmd.enabled))


@handles(WriteWithoutEffect)
def write_without_effect(_host: Host, _call: Call, cmd: WriteWithoutEffect) -> WrittenFile:
    """A write that is taken and moves nothing."""
    return WrittenFile(cmd.path)
