"""One run of the virtio-mem driver: from the size that is plugged towards the size that is requested.

Source: drivers/virtio/virtio_mem.c virtio_mem_run_wq(), virtio_mem_timer_expired(), virtio_mem_init_mm() (5.14).
Not modelled: a hypervisor that cannot serve a request (ETXTBSY); a run of its own when blocks go online.
"""

from hugepool.mm.kernel import virtio_big_blocks, virtio_sub_blocks
from hugepool.mm.kernel.virtio_parts import Run
from hugepool.mm.machine.devices import VirtioMem
from hugepool.mm.machine.state import Host

FIRST_TIMER_S = 50
LONGEST_TIMER_S = 300
SUB_BLOCK_MODE = virtio_sub_blocks.plug, virtio_sub_blocks.unplug
BIG_BLOCK_MODE = virtio_big_blocks.plug, virtio_big_blocks.unplug
TRIED_AGAIN = ("EBUSY", "ENOMEM")


def unit_pages(host: Host, block_pages: int) -> int:
    """What the driver works with: its sub-blocks are what a range is isolated by, or the device's blocks if larger."""
    sub_block = max(block_pages, host.profile.isolation_pages)
    return sub_block if sub_block < host.memory_block_pages else max(block_pages, host.memory_block_pages)


def run_wq(run: Run) -> str | None:
    """Bring the device closer to its requested size; the errno that ended it, with the timer set for another try."""
    device, size = run.device, run.host.memory_block_pages
    plug, unplug = SUB_BLOCK_MODE if device.unit_pages < size else BIG_BLOCK_MODE
    missing = device.requested_pages - device.plugged_pages(size)
    errno = plug(run, missing) if missing > 0 else unplug(run, -missing)
    if errno is None and not all(device.plugged.values()):
        errno = "EBUSY"  # a block with nothing plugged could not be removed
    if errno is None:
        device.attempt = 0
    device.timer_s = timer(device) if errno in TRIED_AGAIN else 0
    return errno


def timer(device: VirtioMem) -> int:
    """Seconds until the next try: 50, and twice as many each time, up to 300."""
    return int(min(FIRST_TIMER_S << min(device.attempt, 8), LONGEST_TIMER_S))


def timer_expired(device: VirtioMem) -> None:
    """The timer fires; the next one runs longer."""
    if device.timer_s:
        device.attempt += 1
        device.timer_s = 0
