"""write(2) on a host's files: a table from path template to parse rule and command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hugepool.fs import cgroup_show, parse, thp
from hugepool.fs.tree import (
    AREA,
    BLOCK,
    CGROUP,
    CGROUPS,
    FILES,
    MEMORY,
    NODE,
    NODE_SIZE,
    SIZE,
    VM,
    Args,
    Folder,
    walk,
)
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.memory_block import WORDS
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, PAGE_SIZE

SYSCTLS = "/proc/sys/"
_RESIZED_AGAIN = {f"{VM}/nr_hugepages": False, f"{VM}/nr_hugepages_mempolicy": True}  # by mempolicy?


@dataclass(frozen=True, slots=True)
class Write:
    """What a write asks for.

    Attributes:
        command: for the engine; None: nothing to do, the write succeeds.
        used: bytes the kernel takes: the return value of write(2) when the command succeeds.
        requested: the number written, for pool sizes.
    """

    command: c.Command[Any] | None
    used: int
    requested: int | None = None

    @property
    def hides_refusal(self) -> bool:
        """Whether write(2) succeeds although pages stayed: a pool that ends elsewhere is no error."""
        return isinstance(self.command, c.SetMaxHugePages)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: the process's name, and the nodes of its mempolicy if it has one."""

    comm: str = "bash"
    mempolicy: tuple[int, ...] | None = None


def parse_write(host: Host, path: str, data: bytes, writer: Writer | None = None, position: int = 0) -> Write:
    """What write(2) of ``data`` at a position of a file asks the host to do.

    sysfs does not look at the position.  A sysctl takes nothing behind the first byte of its file.

    Raises:
        NotFound: no such file, or a folder.
        MMError: EACCES on a file that cannot be written; EINVAL or ERANGE for a text the file does not take.
    """
    item, args = walk(host, path)
    if isinstance(item, Folder):
        raise NotFound(f"{path} is a directory", reason=Reason.IS_A_DIRECTORY)
    if not item.mode & 0o222:
        if item.template.startswith(CGROUPS):  # root may open it, but there is no way to write it
            raise MMError("EINVAL", f"{path} cannot be written", reason=Reason.READ_ONLY)
        raise MMError("EACCES", f"{path} is read-only", reason=Reason.READ_ONLY)
    if not data:
        return Write(None, 0)
    if position and path.startswith(SYSCTLS):
        return _behind_the_beginning(host, item.template, data, writer or Writer())
    return WRITERS[item.template](host, args, data, writer or Writer())


def _behind_the_beginning(host: Host, template: str, data: bytes, writer: Writer) -> Write:
    """A write that is ignored, and succeeds; the size of a pool is set to what it was asked to be before.

    Source: kernel/sysctl.c proc_first_pos_non_zero_ignore() (5.14), with sysctl_writes_strict = 1;
    mm/hugetlb.c hugetlb_sysctl_handler_common() (5.14).
    """
    if template not in _RESIZED_AGAIN:
        return Write(None, len(data))
    mempolicy = writer.mempolicy if _RESIZED_AGAIN[template] else None
    agreed = host.hstates[host.default_order].max_huge_pages
    command = c.SetMaxHugePages(host.default_order, agreed, mempolicy=mempolicy, comm=writer.comm)
    return Write(command, len(data), agreed)


# -- pools -----------------------------------------------------------------------------------------------

_Rule = Callable[[Host, Args, bytes, Writer], Write]


def _sysfs_nr(_host: Host, args: Args, data: bytes, writer: Writer) -> Write:
    count = parse.kstrtoul(data)
    command = c.SetMaxHugePages(args["size"], count, args.get("node"), comm=writer.comm)
    return Write(command, len(data), count)


def _sysfs_nr_mempolicy(_host: Host, args: Args, data: bytes, writer: Writer) -> Write:
    count = parse.kstrtoul(data)
    command = c.SetMaxHugePages(args["size"], count, mempolicy=writer.mempolicy, comm=writer.comm)
    return Write(command, len(data), count)


def _sysfs_overcommit(_host: Host, args: Args, data: bytes, _writer: Writer) -> Write:
    _refuse_gigantic(args["size"])
    count = parse.kstrtoul(data)
    return Write(c.SetOvercommit(args["size"], count), len(data), count)


def _refuse_gigantic(order: int) -> None:
    if order == ORDER_1G:
        raise MMError("EINVAL", "gigantic pages cannot be overcommitted", reason=Reason.GIGANTIC_PAGE)


def _proc_nr(host: Host, _args: Args, data: bytes, writer: Writer) -> Write:
    return _proc_resize(host, data, Writer(writer.comm))


def _proc_nr_mempolicy(host: Host, _args: Args, data: bytes, writer: Writer) -> Write:
    return _proc_resize(host, data, writer)


def _proc_resize(host: Host, data: bytes, writer: Writer) -> Write:
    parsed = parse.proc_doulongvec(data, negative_ignored=host.profile.proc_negative_ignored)
    agreed = host.hstates[host.default_order].max_huge_pages
    count = agreed if parsed.value is None else parsed.value
    command = c.SetMaxHugePages(host.default_order, count, mempolicy=writer.mempolicy, comm=writer.comm)
    return Write(command, parsed.used, count)


def _proc_overcommit(host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    _refuse_gigantic(host.default_order)
    parsed = parse.proc_doulongvec(data, negative_ignored=host.profile.proc_negative_ignored)
    now = host.hstates[host.default_order].nr_overcommit_huge_pages
    count = now if parsed.value is None else parsed.value
    return Write(c.SetOvercommit(host.default_order, count), parsed.used, count)


def _demote(_host: Host, args: Args, data: bytes, writer: Writer) -> Write:
    count = parse.kstrtoul(data)
    return Write(c.Demote(args["size"], count, args.get("node"), comm=writer.comm), len(data), count)


def _demote_size(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    size = parse.memparse_bytes(data)
    if size != PAGE_SIZE << ORDER_2M:
        raise parse.einval(data, "a smaller huge page size: 2048kB")
    return Write(None, len(data))


# -- other sysctls ---------------------------------------------------------------------------------------


def _optimize(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    values, used = parse.proc_dointvec(data, 1)
    return Write(c.SetOptimizeVmemmap(values[0] != 0), used)


def _shm_group(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    values, used = parse.proc_dointvec(data, 1)
    return Write(c.SetShmGroup(values[0]), used)


def _min_free(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    values, used = parse.proc_dointvec(data, 1, low=0)
    return Write(c.SetMinFreeKbytes(values[0]), used)


def _scale_factor(host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    values, used = parse.proc_dointvec(data, 1, low=1, high=host.profile.max_watermark_scale_factor)
    return Write(c.SetWatermarkScaleFactor(values[0]), used)


def _reserve_ratio(host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    values, used = parse.proc_dointvec(data, 5 if host.profile.device_zone else 4)
    ratios = [*values[:4], *host.lowmem_reserve_ratio[len(values) : 4]]
    return Write(c.SetLowmemReserveRatio(tuple(max(0, ratio) for ratio in ratios)), used)


def _compact(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    _, used = parse.proc_dointvec(data, 1)
    return Write(c.CompactMemory(), used)


def _drop_caches(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    values, used = parse.proc_dointvec(data, 1, low=1, high=4)
    return Write(c.DropCaches(values[0]), used)


def _compact_node(_host: Host, args: Args, data: bytes, _writer: Writer) -> Write:
    return Write(c.CompactMemory(args["node"]), len(data))


def _thp(name: str) -> _Rule:
    def rule(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
        return Write(c.SetTransparentHugepage(name, thp.WRITABLE[name].taken(data)), len(data))

    return rule


# -- memory blocks ---------------------------------------------------------------------------------------


def _state(_host: Host, args: Args, data: bytes, writer: Writer) -> Write:
    return Write(c.SetBlockState(args["block"], parse.sysfs_word(data, WORDS), comm=writer.comm), len(data))


def _online(_host: Host, args: Args, data: bytes, writer: Writer) -> Write:
    word = "online" if parse.kstrtobool(data) else "offline"
    return Write(c.SetBlockState(args["block"], word, repeat_ok=True, comm=writer.comm), len(data))


def _cma_alloc(host: Host, args: Args, data: bytes, writer: Writer) -> Write:
    area = host.cma_areas[args["area"]].name
    return Write(c.AllocCma(area, parse.simple_attr(data), comm=writer.comm), len(data))


def _cma_free(host: Host, args: Args, data: bytes, _writer: Writer) -> Write:
    return Write(c.FreeCma(host.cma_areas[args["area"]].name, parse.simple_attr(data)), len(data))


def _poison(mode: str) -> _Rule:
    def rule(_host: Host, _args: Args, data: bytes, writer: Writer) -> Write:
        pfn = parse.simple_attr(data) // PAGE_SIZE
        return Write(c.PoisonPage(pfn, mode, comm=writer.comm), len(data))

    return rule


def _auto_online(_host: Host, _args: Args, data: bytes, _writer: Writer) -> Write:
    return Write(c.SetAutoOnline(parse.sysfs_word(data, WORDS)), len(data))


# -- cgroups ---------------------------------------------------------------------------------------------


def _cgroup_limit(order: int, kind: str) -> _Rule:
    def rule(host: Host, args: Args, data: bytes, _writer: Writer) -> Write:
        size = parse.page_counter(data)
        limit = None if size is None else size // (PAGE_SIZE << order)
        command = c.SetCgroupLimit(cgroup_show.path_of(host, args), order, kind, limit)
        return Write(command, len(data))

    return rule


def _cgroup_procs(host: Host, args: Args, data: bytes, _writer: Writer) -> Write:
    return Write(c.MoveTask(parse.cgroup_pid(data), cgroup_show.path_of(host, args)), len(data))


def _subtree_control(host: Host, args: Args, data: bytes, _writer: Writer) -> Write:
    enabled = parse.subtree_control(data, cgroup_show.CONTROLLER)
    if enabled is None:
        return Write(None, len(data))
    return Write(c.SetSubtreeControl(cgroup_show.path_of(host, args), enabled), len(data))


WRITERS: dict[str, _Rule] = {
    f"{SIZE}/nr_hugepages": _sysfs_nr,
    f"{SIZE}/nr_hugepages_mempolicy": _sysfs_nr_mempolicy,
    f"{SIZE}/nr_overcommit_hugepages": _sysfs_overcommit,
    f"{SIZE}/demote": _demote,
    f"{SIZE}/demote_size": _demote_size,
    f"{NODE_SIZE}/nr_hugepages": _sysfs_nr,
    f"{NODE_SIZE}/demote": _demote,
    f"{NODE_SIZE}/demote_size": _demote_size,
    f"{VM}/nr_hugepages": _proc_nr,
    f"{VM}/nr_hugepages_mempolicy": _proc_nr_mempolicy,
    f"{VM}/nr_overcommit_hugepages": _proc_overcommit,
    f"{VM}/hugetlb_optimize_vmemmap": _optimize,
    f"{VM}/hugetlb_shm_group": _shm_group,
    f"{VM}/min_free_kbytes": _min_free,
    f"{VM}/watermark_scale_factor": _scale_factor,
    f"{VM}/lowmem_reserve_ratio": _reserve_ratio,
    f"{VM}/compact_memory": _compact,
    f"{VM}/drop_caches": _drop_caches,
    f"{NODE}/compact": _compact_node,
    **{f"{thp.FOLDER}/{name}": _thp(name) for name in thp.WRITABLE},
    f"{BLOCK}/state": _state,
    f"{BLOCK}/online": _online,
    f"{MEMORY}/auto_online_blocks": _auto_online,
    f"{MEMORY}/hard_offline_page": _poison("hard"),
    f"{MEMORY}/soft_offline_page": _poison("soft"),
    f"{AREA}/alloc": _cma_alloc,
    f"{AREA}/free": _cma_free,
    **{f"{folder}/cgroup.procs": _cgroup_procs for folder in (CGROUPS, CGROUP)},
    **{f"{folder}/cgroup.subtree_control": _subtree_control for folder in (CGROUPS, CGROUP)},
    **{
        f"{CGROUP}/hugetlb.{size}.{name}": _cgroup_limit(order, kind)
        for order, size in cgroup_show.NAMES.items()
        for name, kind in (("max", "pages"), ("rsvd.max", "reservations"))
    },
}
if missing := {path for path, file in FILES.items() if file.mode & 0o222} - WRITERS.keys():
    raise TypeError(f"no write rule for {sorted(missing)}")
