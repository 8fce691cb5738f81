"""Lists in pages: ``limit``, and a ``cursor`` that says where the last page ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Query

from hugepool.forms.fields import NAME_PATTERN

T = TypeVar("T")
_ABOUT = "`next_cursor` of the page before; leave it out for the first page."
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description=_ABOUT)]
NameCursor = Annotated[str | None, Query(pattern=NAME_PATTERN, description=_ABOUT)]
START = -1


def position(cursor: str | None) -> int:
    """The number that a cursor stands for; ``START`` without one."""
    return START if cursor is None else int(cursor)


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
    return ListPage(items, str(number(items[-1])) if len(rows) > limit else None)
