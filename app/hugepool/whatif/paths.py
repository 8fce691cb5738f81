"""Paths into documents: ``steps[2].resize.count`` as errors write it, ``steps.2.resize.count`` as people do."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json

MAX_WORD = 60
MAX_LISTED = 12
MAX_VALUE = 1000


class NoSuchPath(Exception):
    """A path leads nowhere; the text says where it ends, and what there is."""


def split(path: str) -> list[str]:
    """The parts of ``a.0.b``; ``a[0].b`` is the same path."""
    return re.sub(r"\[([^\[\].]*)\]", r".\1", path).split(".")


def doubles(paths: Iterable[str]) -> str | None:
    """A path that is another one in another spelling, or None."""
    seen = set()
    for path in paths:
        parts = tuple(split(path))
        if parts in seen:
            return path
        seen.add(parts)
    return None


def cut(value: Any) -> Any:
    """A value as answers repeat it: a long text is cut, of a large structure the beginning of its JSON is shown."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else to_json(value).decode()
    if len(text) <= MAX_VALUE:
        return value
    return f"{text[:MAX_VALUE]}..."


def dig(document: Any, path: str) -> Any:
    """The value at a path.  A number picks an entry of a list, a word also one that is labelled so.

    Raises:
        NoSuchPath: with what there is instead.
    """
    parts = split(path)
    for i, part in enumerate(parts):
        key = key_of(document, part)
        if key is None:
            raise NoSuchPath(_nothing(parts[:i], part, document))
        document = document[key]
    return document


def key_of(container: Any, part: str) -> str | int | None:
    """The key that a part of a path means in a container; None: there is no such entry."""
    if isinstance(container, dict):
        return part if part in container else None
    if not isinstance(container, list):
        return None
    if part.isascii() and part.isdigit() and len(part) < MAX_LISTED:
        return int(part) if int(part) < len(container) else None
    found = (i for i, e in enumerate(container) if isinstance(e, dict) and e.get("label") == part)
    return next(found, None)


def replaced(document: Any, path: str, value: Any) -> Any:
    """The document with another value at a path; all that is not on the way there is shared.

    The last part may be a new field of an object.

    Raises:
        NoSuchPath: with what there is instead.
    """
    return _replaced(document, split(path), 0, value)


def _replaced(at: Any, parts: Sequence[str], depth: int, value: Any) -> Any:
    if depth == len(parts):
        return value
    part = parts[depth]
    key = key_of(at, part)
    if key is None and isinstance(at, dict) and depth == len(parts) - 1:
        key = part
    if key is None:
        raise NoSuchPath(_nothing(parts[:depth], part, at))
    copy = at.copy()
    inner = None if isinstance(at, dict) and key not in at else at[key]
    copy[key] = _replaced(inner, parts, depth + 1, value)
    return copy


def _nothing(before: Sequence[str], part: str, container: Any) -> str:
    place = ".".join(before)
    path = f"{place}.{part}" if place else part
    return f"there is no {path[:MAX_WORD]!r}; {place[:MAX_WORD] or 'the document'} {_has(container)}"


def _has(container: Any) -> str:
    if isinstance(container, dict):
        names = [str(name)[:MAX_WORD] for name in container]
        more = ", ..." if len(names) > MAX_LISTED else ""
        return f"has {', '.join(names[:MAX_LISTED])}{more}" if names else "is empty"
    if isinstance(container, list):
        return f"is a list of {len(container)}"
    return "is null" if container is None else "is a plain value"
