"""A machine of which only /proc/meminfo is known: what to boot so that a host matches it."""

from collections.abc import Mapping

from hugepool.fs.consistency import AGAIN, MEMINFO, NODES
from hugepool.fs.foreign import default_order
from hugepool.fs.kernels import choose_kernel
from hugepool.fs.pools import of_meminfo
from hugepool.fs.procfs import columns, parse_meminfo, parse_node_meminfo
from hugepool.fs.sysfs import read_nodes
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.boot.sketch import UNIT
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.machine.errors import BadInput

CMDLINE = "/proc/cmdline"
MATCHED = (
    "There is no zoneinfo and no buddyinfo: this is a booted machine with as much memory, pools as large and as much "
    "free memory as meminfo says. Zones, watermarks, fragmentation and places are those of the model."
)


def read_meminfo_only(files: Mapping[str, str], kernel: str | None) -> MachineImage:
    """The image of a machine without zones, with the spec of one that matches its meminfo.

    Raises:
        BadInput: MemTotal or MemFree is missing or impossible, or the pools contradict each other.
    """
    said = parse_meminfo(MEMINFO, files[MEMINFO])
    for name in ("MemTotal", "MemFree"):
        if name not in said:
            raise BadInput(f"there is no line {name}", where=f"{MEMINFO}:1")
    if said["MemFree"] > said["MemTotal"]:
        raise BadInput("MemFree is above MemTotal", where=MEMINFO)
    chosen = choose_kernel(files, (), kernel)
    image = MachineImage(
        kernel=chosen.name,
        cmdline=files.get(CMDLINE, "").strip(),
        zones=[],
        pools=[],
        meminfo_kb=said,
        default_order=default_order(said),
        assumptions=[MATCHED, *([chosen.note] if chosen.note else [])],
    )
    image.spec = HostSpec(_nodes(files, image), kernel=chosen.name, cmdline=image.cmdline)
    image.pools = list(of_meminfo(image).values())
    huge = sum(pool.nr << (pool.order + 2) for pool in image.pools)
    if said["MemFree"] + huge > said["MemTotal"]:
        detail = (
            f"MemTotal is {said['MemTotal']} kB; {said['MemFree']} are free and {huge} in huge pages: {AGAIN}"
        )
        raise BadInput(detail, where=MEMINFO)
    ends = columns(files[MEMINFO], of_node=False)
    image.carried = {"meminfo": dict(said), "columns": {"meminfo": ends, "node_meminfo": {}}}
    return image


def _nodes(files: Mapping[str, str], image: MachineImage) -> tuple[NodeSpec, ...]:
    """As large as the nodes' own meminfo says; else one node."""
    cpus = read_nodes(files).cpus
    sizes = [image.meminfo_kb["MemTotal"]]
    paths = {nid: f"{NODES}/node{nid}/meminfo" for nid in range(64)}
    found = {nid: path for nid, path in paths.items() if path in files}
    if found and sorted(found) == list(range(len(found))):
        sizes = [parse_node_meminfo(path, files[path], nid).get("MemTotal", 0) for nid, path in found.items()]
    else:
        image.assumptions.append("No meminfo of nodes was collected: the machine has one node.")
    if not cpus:
        image.assumptions.append("No cpulist was collected: each node has one processor.")
    return tuple(
        NodeSpec(max(UNIT, size * 1024 // UNIT * UNIT), max(1, len(cpus.get(nid, [0]))))
        for nid, size in enumerate(sizes)
    )
