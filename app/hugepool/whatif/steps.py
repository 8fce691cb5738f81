"""What a step can do: one table, a row for each word.  ``STEPS`` has all that the API can do to a host."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hugepool.forms import bodies, devices, groups
from hugepool.forms.fields import Body, Text, Whole, refuse
from hugepool.fs.render import Listing, is_directory, listdir, render
from hugepool.fs.write import parse_write
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import Outcome, apply
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import order_of

Names = Mapping[str, dict[str, Any] | None]  # label of a step -> its result, None when it was refused
Act = Callable[[Host, Any, Names, int], Outcome[Any]]  # (host, step, names, now_ns); raises MMError
Build = Callable[[Any, Names], c.Command[Any]]
MAX_DATA = 1 << 16


@dataclass(frozen=True, slots=True)
class StepKind:
    """A row: the word, what stands next to it, and what it does.

    Attributes:
        value: type of the word's value.  more: other fields of the step, by name.
        act: what it does; may leave the host half changed when it raises.
        build: the command that it is, for all that are one.
        refers: what of the value may be the label of an earlier step; ``refers_to`` are words of such steps.
    """

    word: str
    value: Any
    act: Act
    build: Build | None = None
    refers: Callable[[Any], int | str] | None = None
    refers_to: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


# -- values ------------------------------------------------------------------------------------------------


def _reference(value: Any) -> Any:
    if type(value) is int and 0 <= value < 1 << 31:
        return value
    if isinstance(value, str) and value and len(value) <= MAX_LABEL:
        return value
    raise refuse("reference", "must be a number, or the label of the step that made it")


MAX_LABEL = 60
TASKS = ("task", "fork")  # steps that begin a process
_LABEL = r"^[A-Za-z][A-Za-z0-9_ -]*$"
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL, pattern=_LABEL)]
Reference = Annotated[
    int | str,
    BeforeValidator(_reference),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}],
            "description": "Its number, or the label of the step that made it.",
        }
    ),
]


def _data(value: Any) -> Any:
    return str(value) if type(value) is int else value


FilePath = Annotated[
    Text,
    Field(
        max_length=4096,
        pattern="^/",
        json_schema_extra={"pattern": "^/"},
        examples=["/proc/sys/vm/nr_hugepages"],
    ),
]
Data = Annotated[
    Text,
    BeforeValidator(_data, json_schema_input_type=int | str),
    Field(max_length=MAX_DATA, description="What write(2) is given."),
]
BlockNumber = Annotated[Whole, Field(ge=0, lt=2**31, description="Number of a memory block.")]
Pfn = Annotated[Whole, Field(ge=0, lt=2**40, description="Page frame number.")]


class ResizeStep(bodies.PoolSizeBody):
    """A new pool size."""

    size: bodies.HugeSize = "2048kB"


class OvercommitStep(bodies.OvercommitBody):
    """How many surplus huge pages may be made on demand."""

    size: bodies.HugeSize = "2048kB"


class DemoteStep(bodies.DemoteBody):
    """How many gigantic pages to split."""

    size: bodies.HugeSize = "1048576kB"


class TouchStep(bodies.TouchBody):
    """Fault in the next untouched huge pages of a task."""

    pid: Reference


class CgroupStep(groups.CgroupBody):
    """A cgroup and its limits; it is made where it is not there."""

    path: bodies.CgroupPath


class MoveStep(groups.MoveBody):
    """Which task goes to which cgroup."""

    pid: Reference


class ForkStep(Body):
    """Which task forks; the child is known by the step's label."""

    pid: Reference


class PagesStep(groups.WriteBody):
    """Which pages of a task's mapping are written or read."""

    pid: Reference


class ThinStep(Body):
    """What a task keeps of every 256 of its pages; it gives the others back, and memory is fragmented."""

    pid: Reference
    keep_of_256: Annotated[Whole, Field(ge=0, le=256)]


class UnmapStep(groups.UnmapBody):
    """Which pages of a task's mapping are unmapped."""

    pid: Reference


class _OfFile(Body):
    path: bodies.FileName


class FallocateStep(groups.FallocateBody, _OfFile):
    """Pages of a file to fill."""


class PunchStep(groups.PunchBody, _OfFile):
    """Pages of a file to free."""


class TruncateStep(groups.TruncateBody, _OfFile):
    """A file's new length."""


class UnlinkStep(groups.UnlinkBody, _OfFile):
    """A file or SysV segment to remove."""


class ShmgetStep(groups.ShmgetBody, _OfFile):
    """A SysV segment to make."""


FileStep = FallocateStep | PunchStep | TruncateStep | UnlinkStep | ShmgetStep


class UnplugStep(bodies.UnplugBody):
    """How much of which memory block to take out, as virtio-mem does."""

    block: BlockNumber


class PinStep(Body):
    """Which task pins its anonymous memory for long."""

    pid: Reference


class CpuStep(Body):
    """Which CPU a task runs on from now on."""

    pid: Reference
    cpu: bodies.Cpu


class EjectStep(Body):
    """A memory device that is asked to leave: its first memory block, and how many it has."""

    block: BlockNumber
    blocks: Annotated[Whole, Field(ge=1, le=1 << 20)] = 1


class VirtioMemRequestStep(devices.VirtioMemRequestBody):
    """How much of which virtio-mem device the machine is to have."""

    id: devices.DeviceId


class PoisonStep(bodies.PoisonBody):
    """Which page turned bad."""

    pfn: Pfn


class FaultStep(bodies.FaultBody):
    """Which fault point to arm, in the kernel's words."""

    point: FaultPoint


class Nothing(Body):
    """Nothing to say: `{}` or null."""


def _nothing(value: Any) -> Any:
    return {} if value is None else value


# -- what they do ------------------------------------------------------------------------------------------


def _read(machine: Host, step: Any, _names: Names, _now_ns: int) -> Outcome[Any]:
    path = step.read.rstrip("/") or "/"
    if is_directory(machine, path):
        return Outcome(asdict(Listing(listdir(machine, path))))
    return Outcome({"content": render(machine, path)})


def _write(machine: Host, step: Any, _names: Names, now_ns: int) -> Outcome[Any]:
    """write(2): an engine's refusal that the kernel tells nobody of is a success here, with the reason."""
    asked = parse_write(machine, step.write, step.data.encode())
    if asked.command is None:
        return Outcome({"bytes": asked.used})
    done = apply(machine, asked.command, now_ns)
    if done.error is not None and not asked.hides_refusal:
        return done
    return Outcome({"bytes": asked.used, **asdict(done.result)}, None, done.events)


def _made(what: str, key: str, reference: int | str, names: Names) -> int:
    """The number that a reference stands for.  Raises NotFound when that step was refused."""
    if isinstance(reference, int):
        return reference
    result = names.get(reference)
    if result is None:
        raise NotFound(f"the step {reference!r} was refused, so there is no {what}")
    number: int = result[key]
    return number


def _pid(reference: int | str, names: Names) -> int:
    return _made("task", "pid", reference, names)


def _range(reference: int | str, names: Names) -> int:
    return _made("range", "id", reference, names)


def _of_task(word: str, value: Any, build: Callable[[Any, int], c.Command[Any]]) -> StepKind:
    """A step that a task does, which a step `task` or `fork` may have begun."""
    return _by_command(
        word, value, lambda v, names: build(v, _pid(v.pid, names)), refers=lambda v: v.pid, refers_to=TASKS
    )


def _by_command(word: str, value: Any, build: Build, **more: Any) -> StepKind:
    """A step that is one command of the engine."""

    def act(machine: Host, step: Any, names: Names, now_ns: int) -> Outcome[Any]:
        return apply(machine, build(getattr(step, word), names), now_ns)

    return StepKind(word, value, act, build, **more)


def _state(word: str) -> StepKind:
    return _by_command(word, BlockNumber, lambda block, _: c.SetBlockState(block, word))


# -- the table ---------------------------------------------------------------------------------------------

_TASK = Annotated[bodies.TaskBody, Field(discriminator="kind")]
_KINDS = (
    StepKind("write", FilePath, _write, more={"data": (Data, ...)}),
    StepKind("read", FilePath, _read),
    _by_command("task", _TASK, lambda v, _: v.command()),
    _of_task("touch", TouchStep, lambda v, pid: v.command(pid)),
    _of_task("write_pages", PagesStep, lambda v, pid: v.command(pid)),
    _of_task("read_pages", PagesStep, lambda v, pid: v.command(pid, read=True)),
    _of_task("thin", ThinStep, lambda v, pid: c.ShrinkTask(pid, keep_of_256=v.keep_of_256)),
    _of_task("unmap", UnmapStep, lambda v, pid: v.command(pid)),
    _of_task("fork", ForkStep, lambda _v, pid: c.ForkTask(pid)),
    _of_task("pin", PinStep, lambda _v, pid: c.PinTask(pid)),
    _of_task("run_on_cpu", CpuStep, lambda v, pid: c.RunOnCpu(pid, v.cpu)),
    _of_task("move", MoveStep, lambda v, pid: v.command(pid)),
    _by_command(
        "exit", Reference, lambda v, names: c.ExitTask(_pid(v, names)), refers=lambda v: v, refers_to=TASKS
    ),
    _by_command("cgroup", CgroupStep, lambda v, _: v.command(v.path)),
    _by_command("remove_cgroup", bodies.CgroupPath, lambda path, _: c.RemoveCgroup(path)),
    _by_command("mount", groups.MountBody, lambda v, _: v.command()),
    _by_command("umount", groups.AbsolutePath, lambda path, _: c.Umount(path)),
    _by_command("file", Annotated[FileStep, Field(discriminator="op")], lambda v, _: v.command(v.path)),
    _by_command("resize", ResizeStep, lambda v, _: v.command(order_of(v.size))),
    _by_command("overcommit", OvercommitStep, lambda v, _: v.command(order_of(v.size))),
    _by_command("demote", DemoteStep, lambda v, _: v.command(order_of(v.size))),
    _state("offline"),
    _state("online"),
    _state("online_kernel"),
    _state("online_movable"),
    _by_command("add_memory", bodies.AddMemoryBody, lambda v, _: v.command()),
    _by_command("remove_memory", BlockNumber, lambda block, _: c.RemoveMemory(block)),
    _by_command("unplug", UnplugStep, lambda v, _: v.command(v.block)),
    _by_command("eject_memory", EjectStep, lambda v, _: c.EjectMemory(v.block, v.blocks)),
    _by_command("virtio_mem", devices.VirtioMemBody, lambda v, _: v.command()),
    _by_command("request_virtio_mem", VirtioMemRequestStep, lambda v, _: v.command(v.id)),
    _by_command("retry_virtio_mem", devices.DeviceId, lambda name, _: c.RetryVirtioMem(name)),
    _by_command("remove_virtio_mem", devices.DeviceId, lambda name, _: c.RemoveVirtioMem(name)),
    _by_command("poison", PoisonStep, lambda v, _: v.command(v.pfn)),
    _by_command("alloc_contig", bodies.ContigBody, lambda v, _: v.command()),
    _by_command(
        "free_contig",
        Reference,
        lambda v, names: c.FreeContigRange(_range(v, names)),
        refers=lambda v: v,
        refers_to=("alloc_contig",),
    ),
    _by_command("fault", FaultStep, lambda v, _: v.command(v.point)),
    _by_command("clear_fault", FaultPoint, lambda point, _: c.ClearFault(point)),
    _by_command("drain", Annotated[Nothing, BeforeValidator(_nothing)], lambda _v, _: c.RunFreeHpageWork()),
    _by_command("deferred_mode", Literal["auto", "manual"], lambda mode, _: c.SetDeferredMode(mode)),
)
STEPS: dict[str, StepKind] = {kind.word: kind for kind in _KINDS}
