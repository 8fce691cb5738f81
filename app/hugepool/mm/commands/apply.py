"""One road into the engine: a command goes in, an outcome comes out.

``apply`` changes the host in place.  When a command raises, the host may be half changed: throw it away (the
service does) or apply to a copy.  A refusal that the kernel itself would leave traces of is not raised but
returned as ``Outcome.error`` with ``result``.
"""

from dataclasses import dataclass, field
from typing import Any

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
)
from hugepool.mm.commands.commands import Command
from hugepool.mm.commands.registry import HANDLERS
from hugepool.mm.kernel.pcp import vmstat_update
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Occurrence
from hugepool.mm.machine.state import Call, Host


@dataclass(slots=True)
class Outcome:
    """What a command did.

    Attributes:
        result: the answer as plain JSON data; also present beside an error whose changes are kept.
        error: the refusal, or None.
        events: (type, data) in order.
    """

    result: dict[str, Any]
    error: MMError | None = None
    events: list[Occurrence] = field(default_factory=list)


def apply(host: Host, command: Command, now_ns: int = 0) -> Outcome:
    """Apply one command to a host.

    Raises:
        MMError: refused, nothing of it may be kept.
    """
    call = Call(comm=getattr(command, "comm", "hugepool"), now_ns=now_ns)
    caller = host.tasks.get(getattr(command, "pid", -1))
    host.cpu = 0 if caller is None else caller.cpu
    vmstat_update(host, now_ns)
    try:
        result = HANDLERS[type(command)](host, call, command)
    except MMError as error:
        if error.result is None:
            raise
        return Outcome(error.result, error, call.events)
    if call.injected:
        result["injected_fault"] = True
    return Outcome(result, None, call.events)
