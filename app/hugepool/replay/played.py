"""What the model answers to a step of a recording."""

from dataclasses import dataclass, field
from typing import Any


class NotModelledError(Exception):
    """A step of a kind that the model has no rule for yet."""


@dataclass(slots=True)
class Played:
    """What the model answered to one step.

    ``released``: base pages of huge pages that went through the deferred-free worker; ``data``: what a file read;
    ``file``: size and blocks of a hugetlbfs file afterwards; ``slab``: pages taken for kernel objects as recorded.
    """

    result: int | None = None
    errno: str | None = None
    signal: str | None = None
    released: int = 0
    data: str | None = None
    file: dict[str, int] | None = None
    slab: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
