"""One road into the engine: a command goes in, an outcome comes out.

``apply`` changes the host in place.  When a command raises, the host may be half changed: throw it away (the
service does) or apply to a copy.  A refusal that the kernel itself would leave traces of is not raised but
returned as ``Outcome.error`` with ``result``.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Generic

from hugepool.mm.commands import (  # noqa: F401 - each enters its handlers when it is imported
    cgroups,
    contig_ranges,
    deferred_frees,
    faults,
    files,
    huge_maps,
    memory_block,
    poison,
    pool,
    processes,
    sysctl,
    task,
    virtio_mem,
    why,
)
from hugepool.mm.commands.commands import Command
from hugepool.mm.commands.registry import HANDLERS, Answer
from hugepool.mm.kernel.pcp import vmstat_update
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Occurrence
from hugepool.mm.machine.state import Call, Host


@dataclass(slots=True)
class Outcome(Generic[Answer]):
    """What a command did.

    Attributes:
        result: what the kind of command is answered with.  With an error: what is kept, which may be less.
        error: the refusal, or None.
        events: (type, data) in order.
    """

    result: Answer
    error: MMError | None = None
    events: list[Occurrence] = field(default_factory=list)


def apply(host: Host, command: Command[Answer], now_ns: int = 0) -> Outcome[Answer]:
    """Apply one command to a host.

    Raises:
        MMError: refused, nothing of it may be kept.
    """
    newest_pid = host.next_pid - 1
    call = Call(comm=getattr(command, "comm", "hugepool"), now_ns=now_ns)
    caller = host.tasks.get(getattr(command, "pid", -1))
    host.cpu = 0 if caller is None else caller.cpu
    vmstat_update(host, now_ns)
    try:
        result: Any = HANDLERS[type(command)](host, call, command)
    except MMError as error:
        error.why = why.of_refusal(host, command, error, newest_pid)
        if error.result is None:
            raise
        kept: Any = _marked(call, error.result)
        return Outcome(kept, error, call.events)
    return Outcome(_marked(call, result), None, call.events)


def _marked(call: Call, result: Any) -> Any:
    """An answer with the mark of an injected fault; answers to commands that no fault can reach have none."""
    return (
        replace(result, injected_fault=True)
        if call.injected and hasattr(result, "injected_fault")
        else result
    )
