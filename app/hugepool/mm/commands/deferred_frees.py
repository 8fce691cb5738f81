"""The queue of the deferred-free worker: who works it off, and doing so."""

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import hugetlb_page
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.outcomes import Drained, WorkerMode, vmemmap_of
from hugepool.mm.machine.state import Call, DeferredMode, Host

MODES: dict[str, DeferredMode] = {"auto": "auto", "manual": "manual"}


@handles(c.SetDeferredMode)
def set_deferred_mode(host: Host, call: Call, cmd: c.SetDeferredMode) -> WorkerMode:
    mode = MODES.get(cmd.mode)
    if mode is None:
        raise BadInput(f"must be auto or manual, not {cmd.mode!r}", where="mode")
    host.deferred_mode = mode
    call.emit(Event.DEFERRED_MODE_SET, mode=cmd.mode)
    return WorkerMode(mode)


@handles(c.RunFreeHpageWork)
def drain(host: Host, call: Call, cmd: c.RunFreeHpageWork) -> Drained:
    done = hugetlb_page.run_free_hpage_work(host, call, comm=cmd.comm)
    return Drained(done.freed, done.refused, vmemmap_of(call), len(host.deferred))
