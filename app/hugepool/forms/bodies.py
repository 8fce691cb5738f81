"""Request bodies, and the engine's commands that they stand for."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from hugepool.forms.fields import (
    SIZE_WORDS,
    Body,
    Count,
    Files,
    HostName,
    Labels,
    NodeId,
    Size,
    Text,
    Whole,
    at_most_one,
    refuse,
    size_word,
)
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.profile import DEFAULT_KERNEL, PROFILES
from hugepool.mm.machine.state import OomMode
from hugepool.mm.machine.units import PAGE_SIZE, order_of

MAX_TOUCH = 1 << 22
MAX_COUNT = 1 << 22  # 8 TiB of 2 MiB pages: a mapping is kept page by page


def _known_kernels(schema: dict[str, Any]) -> None:
    schema["enum"] = list(PROFILES)


Kernel = Annotated[
    Text,
    Field(max_length=20, description="Rule set of a kernel version.", json_schema_extra=_known_kernels),
]
HugeSize = Annotated[
    Literal["2048kB", "1048576kB"],
    BeforeValidator(size_word),
    WithJsonSchema({"type": "string", "enum": ["2048kB", "1048576kB", *SIZE_WORDS]}),
]


# -- hosts -----------------------------------------------------------------------------------------------


class NodeBody(Body):
    """One NUMA node."""

    memory: Size
    cpus: Annotated[Whole, Field(ge=0, le=8192)] = 1
    movable: Annotated[bool, Field(strict=True, description="All of it is ZONE_MOVABLE.")] = False
    hotplug: Annotated[bool, Field(strict=True, description="Memory that can be taken out.")] = False


class ConfigBody(Body):
    """How the kernel was built."""

    HUGETLB_PAGE_FREE_VMEMMAP_DEFAULT_ON: Annotated[bool, Field(strict=True)] = False
    struct_page_size: Annotated[Whole, Field(ge=8, le=256, description="Bytes of one `struct page`.")] = 64


class SpecBody(Body):
    """A machine to boot."""

    nodes: Annotated[list[NodeBody], Field(min_length=1, max_length=64)]
    kernel: Kernel = DEFAULT_KERNEL
    cmdline: Annotated[
        Text, Field(max_length=4096, description="Kernel command line, parsed and obeyed.")
    ] = ""
    config: ConfigBody = ConfigBody()
    memory_block_size: Size | None = None
    min_free_kbytes: Annotated[Whole, Field(ge=0, le=2**31 - 1)] | None = None
    seed: Annotated[Whole, Field(ge=0, lt=2**63, description="What injected faults are drawn from.")] = 0
    swap: Annotated[
        Size, Field(description="Swap space: anonymous memory goes there when memory is short.")
    ] = 0
    oom: Annotated[
        OomMode, Field(description="When memory runs out: refuse the request, or kill the largest task.")
    ] = "refuse"

    def spec(self) -> HostSpec:
        """The machine that it describes."""
        nodes = tuple(NodeSpec(n.memory, n.cpus, n.movable, n.hotplug) for n in self.nodes)
        return HostSpec(
            nodes=nodes,
            kernel=self.kernel,
            cmdline=self.cmdline,
            default_on=self.config.HUGETLB_PAGE_FREE_VMEMMAP_DEFAULT_ON,
            struct_page_size=self.config.struct_page_size,
            memory_block_size=self.memory_block_size,
            min_free_kbytes=self.min_free_kbytes,
            seed=self.seed,
            swap_bytes=self.swap,
            oom=self.oom,
        )


StateName = Literal[
    "deferred-queue",
    "fragmented",
    "offline-refused",
    "page-cache-full",
    "starved",
    "surplus-stuck",
    "underflow",
    "uneven-nodes",
]
ORIGINS = ("spec", "files", "fork_of", "state")


def one_of(schema: dict[str, Any], *names: str) -> None:
    """Have a schema say that exactly one of some fields is given."""
    schema["oneOf"] = [{"required": [name]} for name in names]
    for origin in names:  # as null they are as good as absent, which oneOf cannot say
        field = schema["properties"][origin]
        options = field.pop("anyOf")
        field.update(next(option for option in options if option.get("type") != "null"))
        field.pop("default", None)


def _one_origin(schema: dict[str, Any]) -> None:
    one_of(schema, *ORIGINS)
    *others, in_state = schema["oneOf"]
    for other in others:
        other["not"] = {"required": ["state"]}
    in_state["not"] = {
        "anyOf": [{"required": ["files"]}, {"required": ["fork_of"]}]
    }  # spec may be next to it
    schema["anyOf"] = [{"required": ["files"]}, {"properties": {"kernel": {"type": "null"}}}]


class HostBody(Body):
    """A new host: booted from `spec`, read from a real machine's `files`, a copy (`fork_of`), or in a `state`."""

    model_config = ConfigDict(json_schema_extra=_one_origin)

    name: HostName
    spec: SpecBody | None = None
    files: Files | None = None
    fork_of: HostName | None = None
    state: StateName | None = Field(
        None, description="Made by the steps that `/v1/states` lists; with `spec` on that machine."
    )
    kernel: Kernel | None = Field(None, description="With `files`: the rule set, else guessed from them.")
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "HostBody":
        given = [origin for origin in ORIGINS if getattr(self, origin) is not None]
        if len(given) != 1 and given != ["spec", "state"]:
            found = " and ".join(given) or "none"
            raise refuse("origin", f"must have exactly one of spec, files, fork_of and state, not {found}")
        if self.kernel is not None and self.files is None:
            raise refuse("origin", "may have kernel only with files; with spec it is spec.kernel")
        return self


class ResetBody(Body):
    """What a host is to become again."""

    to: HostName


class LabelsBody(Body):
    """The labels of a host, in place of those it had."""

    labels: Labels


# -- huge pages ------------------------------------------------------------------------------------------


class PoolSizeBody(Body):
    """A new pool size: for all nodes, for one (`node`), or spread over some (`mempolicy`)."""

    model_config = ConfigDict(json_schema_extra=at_most_one("node", "mempolicy"))

    count: Count
    node: NodeId | None = None
    mempolicy: Annotated[list[NodeId], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "PoolSizeBody":
        if self.node is not None and self.mempolicy is not None:
            raise refuse("nodes", "may have node or mempolicy, not both")
        return self

    def command(self, order: int) -> commands.SetMaxHugePages:
        """The command that it stands for."""
        nodes = None if self.mempolicy is None else tuple(self.mempolicy)
        return commands.SetMaxHugePages(order, self.count, self.node, nodes)


class OvercommitBody(Body):
    """How many surplus huge pages may be made on demand."""

    count: Count

    def command(self, order: int) -> commands.SetOvercommit:
        """The command that it stands for."""
        return commands.SetOvercommit(order, self.count)


class DemoteBody(Body):
    """How many gigantic pages to split, on one node or wherever they are."""

    count: Count
    node: NodeId | None = None

    def command(self, order: int) -> commands.Demote:
        """The command that it stands for."""
        return commands.Demote(order, self.count, self.node)


# -- memory blocks and contiguous ranges -------------------------------------------------------------------


class BlockStateBody(Body):
    """The word written to a memory block's `state`."""

    state: Literal["offline", "online", "online_kernel", "online_movable"]

    def command(self, block: int) -> commands.SetBlockState:
        """The command that it stands for."""
        return commands.SetBlockState(block, self.state)


class AddMemoryBody(Body):
    """Memory to plug into a node: whole memory blocks."""

    node: NodeId
    memory: Size
    start_pfn: (
        Annotated[Whole, Field(ge=0, lt=2**34, description="Where; else behind the machine's RAM.")] | None
    ) = None

    def command(self) -> commands.AddMemory:
        """The command that it stands for."""
        if self.memory % PAGE_SIZE:
            raise BadInput("must be a multiple of the memory block size", where="memory")
        return commands.AddMemory(self.node, self.memory // PAGE_SIZE, self.start_pfn)


class UnplugBody(Body):
    """How much of a memory block to take out, in whole sub-blocks."""

    memory: Size

    def command(self, block: int) -> commands.UnplugMemory:
        """The command that it stands for."""
        if self.memory % PAGE_SIZE:
            raise BadInput("must be a multiple of a sub-block", where="memory")
        return commands.UnplugMemory(block, self.memory // PAGE_SIZE)


class PoisonBody(Body):
    """Whether a page turned bad (`hard`), or is to be taken out before it does (`soft`)."""

    mode: Literal["hard", "soft"]

    def command(self, pfn: int) -> commands.PoisonPage:
        """The command that it stands for."""
        return commands.PoisonPage(pfn, self.mode)


class ContigBody(Body):
    """A range to take (`start_pfn`, `end_pfn`), or the size of one to find (`nr_pages`) on a node or in an area."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {
                    "required": ["start_pfn", "end_pfn"],
                    "properties": {
                        "start_pfn": {"type": "integer"},
                        "end_pfn": {"type": "integer"},
                        "nr_pages": {"type": "null"},
                        "cma": {"type": "null"},
                    },
                },
                {
                    "required": ["nr_pages"],
                    "properties": {
                        "nr_pages": {"type": "integer"},
                        "start_pfn": {"type": "null"},
                        "end_pfn": {"type": "null"},
                    },
                    "anyOf": [
                        {"properties": {"cma": {"type": "null"}}},
                        {"properties": {"node": {"type": "null"}}},
                    ],
                },
            ]
        }
    )

    start_pfn: Annotated[Whole, Field(ge=0, lt=2**40)] | None = None
    end_pfn: Annotated[Whole, Field(ge=0, le=2**40, description="First page behind the range.")] | None = None
    migratetype: Literal["MOVABLE", "CMA"] = "MOVABLE"
    nr_pages: Annotated[Whole, Field(ge=1, le=2**40)] | None = None
    node: NodeId | None = None
    cma: Annotated[Text, Field(max_length=64, description="CMA area to take the pages from.")] | None = None

    @model_validator(mode="after")
    def _check(self) -> "ContigBody":
        given = self.start_pfn is not None and self.end_pfn is not None
        either = self.start_pfn is not None or self.end_pfn is not None
        if (self.nr_pages is not None) == either or given != either:
            raise refuse("range", "needs start_pfn and end_pfn, or nr_pages")
        if self.cma is not None and (self.nr_pages is None or self.node is not None):
            raise refuse("range", "with cma, needs nr_pages and nothing else")
        return self

    def command(self) -> commands.AllocContigRange | commands.AllocContigPages | commands.AllocCma:
        """The command that it stands for."""
        if self.cma is not None:
            return commands.AllocCma(self.cma, self.nr_pages or 0)
        if self.start_pfn is not None and self.end_pfn is not None:
            return commands.AllocContigRange(self.start_pfn, self.end_pfn, self.migratetype)
        return commands.AllocContigPages(self.nr_pages or 0, self.node)


# -- tasks -----------------------------------------------------------------------------------------------


Nodes = Annotated[list[NodeId], Field(max_length=64)]


class PolicyBody(Body):
    """A memory policy: at most one of these."""

    model_config = ConfigDict(json_schema_extra=at_most_one("bind", "interleave", "preferred", "local"))

    bind: Nodes | None = None
    interleave: Nodes | None = None
    preferred: Nodes | None = None
    local: Literal[True] | None = None

    @model_validator(mode="after")
    def _check(self) -> "PolicyBody":
        if len(self.model_dump(exclude_none=True)) > 1:
            raise refuse("policy", "may have one of bind, interleave, preferred and local")
        return self

    def words(self) -> tuple[str, tuple[int, ...]]:
        """Mode and nodes."""
        for mode, nodes in self.model_dump(exclude_none=True).items():
            return mode, () if nodes is True else tuple(nodes)
        return "default", ()


CgroupPath = Annotated[
    Text,
    Field(max_length=400, description="Path below /sys/fs/cgroup; empty: the root.", examples=["pods/a"]),
]
FileName = Annotated[
    str,
    Field(
        min_length=2,
        max_length=4095,
        pattern=r"^(/[!-~ ]+|SYSV[0-9a-f]{8})$",
        description="A hugetlbfs file, made where it is not there, or a SysV segment.",
        examples=["/dev/hugepages/vm1"],
    ),
]


Cpu = Annotated[
    Whole,
    Field(ge=0, lt=1 << 20, description="The CPU that it runs on: without a policy its node is asked first."),
]


class _TaskBody(Body):
    cgroup: CgroupPath = ""
    cpu: Cpu = 0
    comm: Annotated[
        str, Field(min_length=1, max_length=15, pattern=r"^[!-~]+$", description="Name of the process.")
    ] = "task"
    policy: PolicyBody = PolicyBody()

    def _create(self, kind: str, **more: Any) -> commands.CreateTask:
        """The command, with what this kind of task has more."""
        mode, nodes = self.policy.words()
        return commands.CreateTask(
            kind,
            comm=self.comm,
            cgroup=self.cgroup,
            cpu=self.cpu,
            policy_mode=mode,
            policy_nodes=nodes,
            **more,
        )


class HugetlbTaskBody(_TaskBody):
    """A process that maps huge pages and touches some of them."""

    kind: Literal["hugetlb"]
    size: HugeSize = "2048kB"
    count: Annotated[Whole, Field(ge=1, le=MAX_COUNT, description="Huge pages mapped.")]
    touch: Annotated[Whole, Field(ge=0, le=MAX_TOUCH, description="Huge pages faulted in at once.")] = 0
    shared: Annotated[bool, Field(strict=True)] = False
    noreserve: Annotated[bool, Field(strict=True)] = False
    file: FileName | None = None
    offset: Annotated[Whole, Field(ge=0, lt=MAX_COUNT, description="Its first huge page in the file.")] = 0

    def command(self) -> commands.CreateTask:
        """The command that it stands for.  A file's page size is its mount's, unless it is said."""
        of_file = self.file is not None and "size" not in self.model_fields_set
        return self._create(
            self.kind,
            file=self.file,
            offset=self.offset,
            order=None if of_file else order_of(self.size) or 0,
            count=self.count,
            touch=self.touch,
            shared=self.shared,
            noreserve=self.noreserve,
        )


class _PagesTaskBody(_TaskBody):
    memory: Size
    node: NodeId | None = None

    @property
    def pages(self) -> int:
        """Pages of 4 KiB, a started one in full."""
        return -(-self.memory // PAGE_SIZE)


class AnonTaskBody(_PagesTaskBody):
    """A process with movable memory."""

    kind: Literal["anon"]
    mlock: Annotated[bool, Field(strict=True)] = False
    pinned: Annotated[
        bool,
        Field(strict=True, description="A long-term pin, as for RDMA or a device: its pages never move."),
    ] = False

    def command(self) -> commands.CreateTask:
        """The command that it stands for."""
        return self._create(
            self.kind,
            pages=self.pages,
            mlock=self.mlock,
            pinned=self.pinned,
            node=self.node,
        )


class KernelTaskBody(_PagesTaskBody):
    """Unmovable pages of the kernel."""

    kind: Literal["kernel"]

    def command(self) -> commands.CreateTask:
        """The command that it stands for."""
        return self._create(
            self.kind,
            pages=self.pages,
            node=self.node,
        )


class CacheTaskBody(_PagesTaskBody):
    """Page cache of files, which belongs to no process; its pid is a handle.  To delete it removes the files."""

    kind: Literal["cache"]
    clean: Annotated[
        bool,
        Field(
            strict=True,
            description="It is given up when memory is short; else it is dirty or mapped, and stays.",
        ),
    ] = True

    def command(self) -> commands.CreateTask:
        """The command that it stands for."""
        return self._create(
            self.kind,
            pages=self.pages,
            clean=self.clean,
            node=self.node,
        )


TaskBody = HugetlbTaskBody | AnonTaskBody | KernelTaskBody | CacheTaskBody


class TouchBody(Body):
    """Fault in the next untouched huge pages of a mapping."""

    count: Annotated[Whole, Field(ge=0, le=MAX_TOUCH)]
    map: Annotated[Whole, Field(ge=0, le=2**31, description="Number of the mapping within the task.")] = 0

    def command(self, pid: int) -> commands.TouchHugePages:
        """The command that it stands for."""
        return commands.TouchHugePages(pid, self.map, self.count)


# -- deferred frees and faults -----------------------------------------------------------------------------


class DeferredModeBody(Body):
    """Who works off the queue: the service's worker (`auto`), or only a drain (`manual`)."""

    mode: Literal["auto", "manual"]

    def command(self) -> commands.SetDeferredMode:
        """The command that it stands for."""
        return commands.SetDeferredMode(self.mode)


class FaultBody(Body):
    """Fault injection in the kernel's words."""

    probability: Annotated[Whole, Field(ge=0, le=100, description="Percent.")] = 100
    interval: Annotated[Whole, Field(ge=1, le=2**31 - 1, description="Every n-th request may fail.")] = 1
    times: Annotated[Whole, Field(ge=-1, le=2**31 - 1, description="Failures left; -1 no limit.")] = -1
    space: Annotated[
        Whole,
        Field(
            ge=0, le=2**31 - 1, description="Failing begins with the page of this number; 0 and 1: at once"
        ),
    ] = 0

    def command(self, point: str) -> commands.SetFault:
        """The command that it stands for."""
        return commands.SetFault(point, self.probability, self.interval, self.times, self.space)
