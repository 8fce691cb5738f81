"""What paths into answers can lead to: known from the classes of answers, before anything is run."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.units import ORDER_1G, ORDER_2M, size_name
from hugepool.mm.views.host_view import Memory, MemoryBlockCount
from hugepool.mm.views.pool_view import HugePages, VmemmapTotals

PLAIN = (str, int, float, bool, NoneType)
MAX_LISTED = 12
Shape = Any  # a type, or a mapping of names to shapes
NODE_MEMORY: Mapping[str, Shape] = {**get_type_hints(Memory), "node": int}
COUNTERS: Mapping[str, Shape] = {
    **{size_name(order): HugePages for order in (ORDER_2M, ORDER_1G)},
    "memory": {**get_type_hints(Memory), "nodes": [NODE_MEMORY]},
    "vmemmap": VmemmapTotals,
    "memory_blocks": MemoryBlockCount,
    "deferred_frees": int,
}


def answer_of(command: Command[Any]) -> type[Any]:
    """The class that a command is answered with."""
    for base in getattr(type(command), "__orig_bases__", ()):
        if get_origin(base) is Command:
            found: type[Any] = get_args(base)[0]
            return found
    raise TypeError(f"{type(command).__name__} names no answer")


def wrong(shape: Shape, parts: Sequence[str]) -> str | None:
    """Why a path leads nowhere, whatever happens: what there is instead, and what may be meant; None: it may lead.

    Args:
        parts: of the path; where they come to a list, a number or a label.
    """
    shapes = [shape]
    for i, part in enumerate(parts):
        options = [option for each in shapes for option in _options(each)]
        if any(option is Any for option in options):
            return None
        shapes = [found for option in options for found in _within(option, part)]
        if not shapes:
            return _nothing(parts[:i], part, options)
    return None


def _options(shape: Shape) -> list[Shape]:
    if get_origin(shape) in {Union, UnionType}:
        return [option for each in get_args(shape) for option in _options(each)]
    return [shape]


def _within(shape: Shape, part: str) -> list[Shape]:
    """What a part of a path may lead to; nothing where there is no such part."""
    if isinstance(shape, list):
        return shape
    origin: Any = get_origin(shape)
    inner = get_args(shape)
    if origin in {list, tuple}:
        return [each for each in inner if each is not Ellipsis]
    if origin is dict:
        return [inner[1]]
    known = _fields(shape)
    return [known[part]] if part in known else []


def _fields(shape: Shape) -> Mapping[str, Shape]:
    if isinstance(shape, Mapping):
        return shape
    if is_dataclass(shape):
        hints = get_type_hints(shape)
        return {each.name: hints[each.name] for each in fields(shape)}
    origin: Any = get_origin(shape)
    if shape in PLAIN or origin is Literal or isinstance(shape, type):
        return {}
    raise TypeError(f"the shape {shape} is not known here")


def _nothing(before: Sequence[str], part: str, options: Sequence[Shape]) -> str:
    path = ".".join((*before, part))
    names = list(dict.fromkeys(name for option in options for name in _fields(option)))
    place = ".".join(before) or "the answer"
    if not names:
        return f"there is no {path!r}; {place} has no parts"
    close = get_close_matches(part, names, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}?" if close else ""
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return f"there is no {path!r}; {place} has {listed}{meant}"
