"""What a new host is made of: a specification, a machine that was read, a copy, a state by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hugepool.forms.bodies import SpecBody, StateName
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.image import MachineImage
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.boot.spec import HostSpec
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGE_SIZE
from hugepool.store.hosts import host_bytes, map_bytes


@dataclass(frozen=True, slots=True)
class ForkOf:
    """A new host that begins as a copy of another."""

    name: str


@dataclass(frozen=True, slots=True)
class Several:
    """New hosts that are all made of one machine.

    Attributes:
        names: none twice.  labels: those of each.
        where: the place in the question, for refusals.
    """

    names: Sequence[str]
    source: HostSpec | MachineImage | ForkOf
    labels: Mapping[str, str]
    where: str


@dataclass(frozen=True, slots=True)
class Created:
    """Hosts that were made: how many, and their names in order."""

    created: int
    hosts: list[str]


@dataclass(frozen=True, slots=True)
class InState:
    """A new host in a state of ``whatif.states``, on the machine that it is shown on or on another."""

    name: StateName
    spec: SpecBody | None = None


Source = HostSpec | MachineImage | ForkOf | InState


@dataclass(frozen=True, slots=True)
class Copied:
    """A copied host, where it is from, and the console lines that come with it."""

    origin: str
    revision: int
    host: Host
    console: list[Occurrence]


@dataclass(frozen=True, slots=True)
class Made:
    """A host in a state, and what its console printed on the way there."""

    state: str
    host: Host
    console: list[str]


Prepared = HostSpec | MachineImage | Copied | Made


def make(source: Prepared, call: Call) -> Host:
    """A new host; its first events go into ``call``.  Raises BadInput for an impossible machine."""
    if isinstance(source, Copied):
        call.events.extend(source.console)
        call.emit(Event.HOST_FORKED, origin=source.origin, revision=source.revision)
        return source.host
    if isinstance(source, MachineImage):
        return restore_machine(source, call)
    if isinstance(source, Made):
        call.emit(
            Event.HOST_BOOTED, kernel=source.host.kernel, cmdline=source.host.cmdline, state=source.state
        )
        for line in source.console:
            call.printk(line)
        return source.host
    call.emit(Event.HOST_BOOTED, kernel=source.kernel, cmdline=source.cmdline)
    return boot(source, call)


def make_at(where: str, source: Prepared, call: Call) -> Host:
    """The same; what is wrong with the machine names its place in the question."""
    try:
        return make(source, call)
    except BadInput as error:
        raise BadInput(error.message, where=f"{where}.{error.where}" if error.where else where) from None


def bytes_of(source: Prepared) -> int:
    """About how much memory a host takes, in bytes."""
    if isinstance(source, Copied | Made):
        return host_bytes(source.host)
    if isinstance(source, MachineImage):
        return map_bytes(source.map_pages)
    return map_bytes(sum(node.memory_bytes for node in source.nodes) // PAGE_SIZE)
