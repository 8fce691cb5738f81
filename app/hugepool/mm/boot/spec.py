"""What a host is booted from: nodes, kernel, command line, configuration.  Plain data, checked here."""

from dataclasses import dataclass, field
from typing import get_args

from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.profile import DEFAULT_KERNEL, profile_of
from hugepool.mm.machine.state import OomMode
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES, SECTION_PAGES

MAX_NODES = 64
MAX_MEMORY_BYTES = 64 << 40
MIN_MEMORY_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One NUMA node.

    ``memory_bytes``: a multiple of 2 MiB, or 0 for a node that has only CPUs until memory is added.
    ``movable``: all of it is ZONE_MOVABLE.  ``hotplug``: it can be taken out, so movable_node makes it so too.
    """

    memory_bytes: int
    cpus: int = 1
    movable: bool = False
    hotplug: bool = False


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A machine to boot."""

    nodes: tuple[NodeSpec, ...]
    kernel: str = DEFAULT_KERNEL
    cmdline: str = ""
    default_on: bool = False
    struct_page_size: int = 64
    memory_block_size: int | None = None
    min_free_kbytes: int | None = None
    seed: int = 0
    swap_bytes: int = 0
    oom: OomMode = "refuse"
    cpu_count: int = field(default=0)


def check_spec(spec: HostSpec) -> None:
    """Refuse what no machine can be.  Raises BadInput naming the field."""
    profile_of(spec.kernel)
    if not 1 <= len(spec.nodes) <= MAX_NODES:
        raise BadInput(f"must list 1..{MAX_NODES} nodes, not {len(spec.nodes)}", where="nodes")
    for i, node in enumerate(spec.nodes):
        _check_node(i, node)
    if sum(node.memory_bytes for node in spec.nodes) > MAX_MEMORY_BYTES:
        raise BadInput("more than 64 TiB in all", where="nodes")
    if all(node.movable for node in spec.nodes) or spec.nodes[0].movable:
        raise BadInput(
            "the kernel itself needs memory: node 0 cannot be movable only", where="nodes[0].movable"
        )
    if not 8 <= spec.struct_page_size <= 256:
        raise BadInput(f"must be 8..256 bytes, not {spec.struct_page_size}", where="config.struct_page_size")
    if spec.struct_page_size != 64 and spec.struct_page_size & (spec.struct_page_size - 1) == 0:
        raise BadInput("of the powers of two only 64 is modelled", where="config.struct_page_size")
    _check_block_size(spec)
    if spec.min_free_kbytes is not None and not 0 <= spec.min_free_kbytes <= 2**31 - 1:
        raise BadInput("must be 0..2147483647", where="min_free_kbytes")
    _check_shortage(spec)
    if not 0 <= spec.seed < 2**63:
        raise BadInput("must be 0..2**63-1", where="seed")


def _check_shortage(spec: HostSpec) -> None:
    if not 0 <= spec.swap_bytes <= MAX_MEMORY_BYTES or spec.swap_bytes % PAGE_SIZE:
        raise BadInput("must be whole pages of 4 KiB, at most 64T", where="swap")
    if spec.oom not in get_args(OomMode):
        raise BadInput(f"must be one of {', '.join(get_args(OomMode))}, not {spec.oom!r}", where="oom")


def _check_node(i: int, node: NodeSpec) -> None:
    where = f"nodes[{i}].memory"
    if not 0 <= node.cpus <= 8192:
        raise BadInput("must be 0..8192", where=f"nodes[{i}].cpus")
    if node.memory_bytes == 0 and i > 0:
        return
    if node.memory_bytes < MIN_MEMORY_BYTES:
        raise BadInput(f"must be at least 128M, not {node.memory_bytes} bytes", where=where)
    if node.memory_bytes > MAX_MEMORY_BYTES:
        raise BadInput("must be at most 64T", where=where)
    if node.memory_bytes % (PAGEBLOCK_PAGES * PAGE_SIZE):
        raise BadInput("must be a multiple of 2M", where=where)


def _check_block_size(spec: HostSpec) -> None:
    size = spec.memory_block_size
    section = SECTION_PAGES * PAGE_SIZE
    if size is None:
        return
    if size < section or size > 2 << 30 or size & (size - 1):
        raise BadInput("must be a power of two from 128M to 2G", where="memory_block_size")
