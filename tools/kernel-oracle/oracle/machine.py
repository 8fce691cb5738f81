"""The machine that a guest has: its kernel, command line, nodes, DIMMs and disk, as QEMU takes them."""

from dataclasses import dataclass

from oracle.kernels import OracleError

CMDLINE = (
    "console=ttyS0,115200 loglevel=5 nokaslr mitigations=off panic=-1 "
    "transparent_hugepage=madvise numa_balancing=disable log_buf_len=1M nmi_watchdog=0 nowatchdog "
    "no_timer_check rcupdate.rcu_cpu_stall_suppress=1 "  # on a busy machine interrupts come late
    "random.trust_cpu=on init_on_alloc=0"
)


@dataclass(frozen=True)
class Machine:
    """What to boot.

    Attributes:
        kernel: a series, a release that was set up, or the path of an image.
        hvo: whether to boot with vmemmap freeing.
        memory: of the whole guest, such as ``4G``.
        numa: memory of each node; a node has one processor.
        dimms: sizes of DIMMs that steps can plug.
        cmdline: more kernel parameters.
        qemu_machine: QEMU's name of the board.
        disk: size of a disk for page cache (sparse, ext4), empty for none.
    """

    kernel: str
    hvo: bool
    memory: str = "4G"
    numa: tuple[str, ...] = ()
    dimms: tuple[str, ...] = ()
    cmdline: str = ""
    qemu_machine: str = "pc"
    disk: str = ""

    @property
    def whole_cmdline(self) -> str:
        """The kernel's command line."""
        return f"{CMDLINE} hugetlb_free_vmemmap={'on' if self.hvo else 'off'} {self.cmdline}".strip()

    @property
    def memory_option(self) -> str:
        """The value of QEMU's option ``-m``."""
        if not self.dimms:
            return self.memory
        return f"{self.memory},slots={len(self.dimms)},maxmem={gib(self.memory) + sum(map(gib, self.dimms)) + 4}G"

    @property
    def devices(self) -> list[str]:
        """QEMU's other options, as a recording keeps them."""
        out = [] if self.qemu_machine == "pc" else [f"-machine {self.qemu_machine}"]
        for node, size in enumerate(self.numa):
            out.append(f"-object memory-backend-ram,size={size},id=m{node}")
            out.append(f"-numa node,nodeid={node},memdev=m{node},cpus={node}")
        for number, size in enumerate(self.dimms):
            out.append(f"-object memory-backend-ram,id=d{number},size={size}")
        if self.disk:
            out.append(f"-drive if=none,id=disk,format=raw,size={self.disk}")
        return out


def gib(size: str) -> int:
    """A size such as ``3G`` or ``3072M`` in GiB.

    Raises:
        OracleError: not a whole number of GiB.
    """
    number, unit = size[:-1], size[-1:].upper()
    if not number.isdigit() or unit not in "GM" or (unit == "M" and int(number) % 1024):
        raise OracleError(f"a memory size is a whole number of GiB such as 4G, not {size!r}")
    return int(number) if unit == "G" else int(number) // 1024
