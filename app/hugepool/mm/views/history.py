"""What happened to a host: its events and its console."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened to a host.

    Attributes:
        id: 1, 2, 3 ... within the host.
        revision: the host's revision after the change that it is part of.
        time: in UTC (RFC 3339).
        by: name of the token that was used; null without tokens, and for the worker.
        type: in the past tense, such as `PoolResized`; docs/http.md lists them.
        data: facts, by the type.
    """

    id: int
    revision: int
    time: str
    by: str | None
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventPage:
    """A piece of history, the oldest first.

    Attributes:
        next_after: for `after` of the next request.
    """

    items: list[EventRow]
    next_after: int


@dataclass(frozen=True, slots=True)
class Dmesg:
    """The console, the oldest line first."""

    lines: list[str]
