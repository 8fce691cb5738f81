"""Pages that turn bad, or are taken out before they do.

Source: mm/memory-failure.c memory_failure(), soft_offline_page() (5.14).
"""

from hugepool.mm.commands.commands import PoisonPage
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import memory_failure
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import Action, Poisoned
from hugepool.mm.machine.outcomes import vmemmap_of
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host

MODES = ("hard", "soft")


@handles(PoisonPage)
def poison_page(host: Host, call: Call, cmd: PoisonPage) -> Poisoned:
    """Take a page out of use for good; the answer's ``action`` is as in ``memory_failure.poison``.

    Raises:
        MMError: EINVAL no such mode; ENXIO and EBUSY as in ``memory_failure.poison``, with ``result`` when the task
            of a page in use has lost it all the same, or when its whole huge page is lost.
    """
    if cmd.mode not in MODES:
        raise BadInput(f"must be hard or soft, not {cmd.mode!r}", where="mode")
    try:
        action = memory_failure.poison(host, call, cmd.pfn, cmd.mode)
    except MMError as refusal:
        if refusal.result is not None:
            refusal.result = _answer(host, call, cmd, refusal.result)
        raise
    answer = _answer(host, call, cmd, action)
    if action == "lost":
        raise MMError("EBUSY", f"page {cmd.pfn} could not be taken off the free lists", reason=Reason.POISON_LOST,
                      result=answer, pfn=cmd.pfn)  # fmt: skip
    return answer


def _answer(host: Host, call: Call, cmd: PoisonPage, action: Action) -> Poisoned:
    call.emit(Event.PAGE_POISONED, pfn=cmd.pfn, mode=cmd.mode, action=action)
    return Poisoned(
        cmd.pfn, "hard" if cmd.mode == "hard" else "soft", action, host.poisoned_pages, vmemmap_of(call)
    )
