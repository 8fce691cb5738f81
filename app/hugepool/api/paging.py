"""Lists in pages: ``limit``, and a ``cursor`` that says where the last page ended."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Query

from hugepool.mm.machine.errors import BadInput

Cursor = Annotated[
    str | None,
    Query(max_length=200, description="`next_cursor` of the page before; leave it out for the first page."),
]
T = TypeVar("T")
START = -1
MAX_DIGITS = 18
MAX_NAME = 63


def position(cursor: str | None) -> int:
    """The number that a cursor stands for; ``START`` without one.  Raises EINVAL for a cursor never given."""
    text = _decode(cursor, "number")
    if text is None:
        return START
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise _unknown()
    return int(text)


def name_of(cursor: str | None) -> str | None:
    """The name that a cursor stands for.  Raises EINVAL for a cursor never given."""
    text = _decode(cursor, "name")
    if text is not None and (not text.isascii() or len(text) > MAX_NAME):
        raise _unknown()
    return text


def number_cursor(number: int) -> str:
    """A cursor that stands for a number; opaque, as clients must not make their own."""
    return _encode("number", str(number))


def name_cursor(name: str) -> str:
    """A cursor that stands for a name."""
    return _encode("name", name)


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """A part of a list.

    Attributes:
        next_cursor: for `cursor` of the next request; null: there are no more.
    """

    items: list[T]
    next_cursor: str | None


def page(rows: list[T], limit: int, number: Callable[[T], int]) -> ListPage[T]:
    """A page out of up to ``limit`` + 1 rows: with one too many there is a next page, behind ``number``."""
    items = rows[:limit]
    return ListPage(items, number_cursor(number(items[-1])) if len(rows) > limit else None)


def _encode(kind: str, text: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{text}".encode()).decode()


def _decode(cursor: str | None, kind: str) -> str | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, UnicodeError):
        raise _unknown() from None
    found, colon, rest = text.partition(":")
    if found != kind or not colon:
        raise _unknown()
    return rest


def _unknown() -> BadInput:
    return BadInput("is not a cursor of this list", where="query cursor")
