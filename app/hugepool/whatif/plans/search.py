"""Trying commands on copies, and finding the largest number that works."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host


@dataclass(frozen=True, slots=True)
class Trial:
    """What a command did to a copy.  ``host``: the copy, or the host as it was when nothing was kept."""

    host: Host
    result: dict[str, Any]
    error: MMError | None

    @property
    def reason(self) -> Reason | None:
        """The word for what stopped it: of the refusal, else of what is missing."""
        if self.error is not None:
            return self.error.reason
        shortfall = self.result.get("shortfall") or {}
        reason: Reason | None = shortfall.get("reason")
        return reason


def attempt(host: Host, *commands: Command) -> Trial:
    """Commands on a copy, the last of which may be refused.

    Raises:
        BadInput, NotFound: the question itself makes no sense on this host.
    """
    trial = fork(host)
    result: dict[str, Any] = {}
    for command in commands:
        try:
            outcome = apply(trial, command)
        except (BadInput, NotFound):
            raise
        except MMError as refusal:
            return Trial(host, {}, refusal)
        result = outcome.result
        if outcome.error is not None:
            return Trial(trial, result, outcome.error)
    return Trial(trial, result, None)


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
