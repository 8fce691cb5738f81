"""The texts of /sys/devices/system/cpu: which CPUs there are, and their topology.

A node's CPUs are one package, and every CPU is its own core: the model knows nothing of caches and threads, and
programs that look for CPUs want to know the node.

Source: drivers/base/topology.c, drivers/base/cpu.c (5.14).
"""

from collections.abc import Iterable

from hugepool.fs.textfile import bitmap_list
from hugepool.mm.machine.state import Host

UINT_MAX = (1 << 32) - 1


def cpus(host: Host) -> list[int]:
    """Numbers of all CPUs, ascending."""
    return sorted(cpu for node in host.nodes for cpu in node.cpus)


def node_of(host: Host, cpu: int) -> int:
    """The node of a CPU that the host has."""
    return next(node.nid for node in host.nodes if cpu in node.cpus)


def bitmap(host: Host, chosen: Iterable[int]) -> str:
    """CPUs as hexadecimal words of 32 bits, the highest first, as wide as the machine has CPUs."""
    nr_cpus = max(cpus(host), default=0) + 1
    mask = sum(1 << cpu for cpu in chosen)
    words = -(-nr_cpus // 32)
    top_digits = -(-(nr_cpus - 32 * (words - 1)) // 4)
    parts = [
        f"{mask >> 32 * i & UINT_MAX:0{top_digits if i == words - 1 else 8}x}" for i in reversed(range(words))
    ]
    return ",".join(parts) + "\n"


def listed(host: Host) -> str:
    """``online``, ``possible`` and ``present``: all of them."""
    return bitmap_list(cpus(host))


def core_id(host: Host, cpu: int) -> str:
    """Its place within the package."""
    return f"{sorted(host.nodes[node_of(host, cpu)].cpus).index(cpu)}\n"


def package_id(host: Host, cpu: int) -> str:
    """The number of its node."""
    return f"{node_of(host, cpu)}\n"


def core_cpus(host: Host, cpu: int) -> str:
    """The CPUs of its core as a bitmap: itself."""
    return bitmap(host, [cpu])


def core_cpus_list(_host: Host, cpu: int) -> str:
    """The same as a list."""
    return f"{cpu}\n"


def package_cpus(host: Host, cpu: int) -> str:
    """The CPUs of its package as a bitmap: those of the node."""
    return bitmap(host, host.nodes[node_of(host, cpu)].cpus)


def package_cpus_list(host: Host, cpu: int) -> str:
    """The same as a list."""
    return bitmap_list(host.nodes[node_of(host, cpu)].cpus)


# Two names each: the older one is what most programs read.
TOPOLOGY = {
    "core_cpus": core_cpus,
    "core_cpus_list": core_cpus_list,
    "core_id": core_id,
    "core_siblings": package_cpus,
    "core_siblings_list": package_cpus_list,
    "package_cpus": package_cpus,
    "package_cpus_list": package_cpus_list,
    "physical_package_id": package_id,
    "thread_siblings": core_cpus,
    "thread_siblings_list": core_cpus_list,
}
