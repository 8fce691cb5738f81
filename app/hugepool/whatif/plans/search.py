"""Trying commands on copies, and finding the largest number that works."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import Command
from hugepool.mm.commands.registry import Answer
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.pool_outcomes import Resize
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host


@dataclass(frozen=True, slots=True)
class Trial(Generic[Answer]):
    """What a command did to a copy.

    Attributes:
        host: the copy, or the host as it was when nothing was kept.
        result: what the command answered, also when it was refused; None when nothing was kept.
    """

    host: Host
    result: Answer | None
    error: MMError | None

    @property
    def reason(self) -> Reason | None:
        """The word for what stopped it: of the refusal, else of what is missing."""
        if self.error is not None:
            return self.error.reason
        if isinstance(self.result, Resize) and self.result.shortfall is not None:
            return self.result.shortfall.reason
        return None


def attempt(host: Host, command: Command[Answer], *, after: Sequence[Command[Any]] = ()) -> Trial[Answer]:
    """A command on a copy, which may be refused; those that come before it on the copy may not.

    Raises:
        BadInput, NotFound: the question itself makes no sense on this host.
        MMError: one of ``after`` was refused.
    """
    trial = fork(host)
    for each in after:
        done = apply(trial, each)
        if done.error is not None:
            raise done.error
    try:
        outcome = apply(trial, command)
    except (BadInput, NotFound):
        raise
    except MMError as refusal:
        return Trial(host, None, refusal)
    return Trial(trial, outcome.result, outcome.error)


def largest(low: int, high: int, works: Callable[[int], bool], near: int) -> int:
    """The largest number in ``low`` .. ``high`` that works, where ``low`` does and all below the answer do.

    ``near``: a guess; what it costs grows with the logarithm of how far off it is.
    """
    step = 1
    at = min(max(near, low), high)
    if at > low and not works(at):
        high = at - 1
        while (at := max(low, high + 1 - step)) > low and not works(at):
            high, step = at - 1, step * 2
        low = at
    else:
        low = at
        while low < high:
            at = min(high, low + step)
            if not works(at):
                high = at - 1
                break
            low, step = at, step * 2
    while low < high:
        middle = (low + high + 1) // 2
        if works(middle):
            low = middle
        else:
            high = middle - 1
    return low
