"""The language of ``expect``: paths into what a step answered and into files, and how values are compared.

``{"errno": "ENOMEM"}`` asks for equality, ``{"result.freed": {"ge": 8, "lt": 16}}`` for every comparison it
names.  ``/proc/meminfo`` is the text of a file after the step, ``/proc/meminfo#MemFree`` a number in it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticSerializationError, to_json

from hugepool.forms.fields import refuse
from hugepool.fs.render import render
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Host
from hugepool.whatif.paths import NoSuchPath, cut, dig, doubles, split


@dataclass(frozen=True, slots=True)
class FailedExpectation:
    """What was expected and is not so."""

    path: str
    expected: Any
    actual: Any
    message: str


ROOTS = ("errno", "signal", "reason", "detail", "result", "counters")
MAX_EXPECTATIONS = 100
MAX_PATH = 300
HEXADECIMAL = ("/block_size_bytes", "/phys_index")  # files of hexadecimal digits: texts


def _equal(actual: Any, wanted: Any) -> bool:
    """JSON's equality: true is not 1."""
    return isinstance(actual, bool) == isinstance(wanted, bool) and bool(actual == wanted)


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "ne": lambda actual, wanted: not _equal(actual, wanted),
    "lt": lambda actual, wanted: bool(actual < wanted),
    "le": lambda actual, wanted: bool(actual <= wanted),
    "gt": lambda actual, wanted: bool(actual > wanted),
    "ge": lambda actual, wanted: bool(actual >= wanted),
    "in": lambda actual, wanted: any(_equal(actual, one) for one in wanted),
    "contains": lambda actual, wanted: wanted in actual,
}
ORDER = ("lt", "le", "gt", "ge")


# -- reading the document ----------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value that can be repeated as JSON: no halves of characters, not too deep."""
    try:
        to_json(value)
    except (PydanticSerializationError, ValueError):
        raise refuse("text", "must be valid Unicode text, and not nested deeply") from None
    return value


def _check(expect: dict[str, Any]) -> dict[str, Any]:
    for path, wanted in expect.items():
        _check_path(path)
        if isinstance(wanted, dict):
            _check_comparisons(path, wanted)
    if (twice := doubles(expect)) is not None:
        raise refuse("expect", f"names {twice!a} a second time, in another spelling")
    plain(expect)
    return expect


def _check_path(path: str) -> None:
    root = split(path)[0]
    if len(path) > MAX_PATH:
        raise refuse("expect", f"has a path of more than {MAX_PATH} characters")
    if root not in ROOTS and not path.startswith("/"):
        words = ", ".join(ROOTS)
        raise refuse("expect", f"cannot look at {path!a}: a path begins with {words}, or with / for a file")


def _check_comparisons(path: str, wanted: Mapping[str, Any]) -> None:
    for word, operand in wanted.items():
        if word not in COMPARISONS:
            raise refuse("expect", f"{path!a}: no comparison {word!a}; there are {', '.join(COMPARISONS)}")
        if word in ORDER and not _is_number(operand):
            raise refuse("expect", f"{path!a}: {word} needs a number")
        if word == "in" and not isinstance(operand, list):
            raise refuse("expect", f"{path!a}: in needs a list")
        if word == "contains" and not isinstance(operand, str):
            raise refuse("expect", f"{path!a}: contains needs a text")
    if not wanted:
        raise refuse("expect", f"{path!a}: an object names comparisons; there are {', '.join(COMPARISONS)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_ORDERED = {"type": "number"}
_OPERANDS: dict[str, Any] = dict.fromkeys(ORDER, _ORDERED) | {
    "eq": {}, "ne": {}, "in": {"type": "array", "items": {}}, "contains": {"type": "string"}
}  # fmt: skip
SCHEMA = {
    "type": "object",
    "description": "What has to be true after the step, by path: a value, or comparisons. See docs/what-if.md.",
    "propertyNames": {"pattern": rf"^(({'|'.join(ROOTS)})([.\[].*)?|/.*)$", "maxLength": MAX_PATH},
    "maxProperties": MAX_EXPECTATIONS,
    "additionalProperties": {
        "anyOf": [
            {"type": ["string", "number", "boolean", "null"]},
            {"type": "array", "items": {}},
            {"type": "object", "properties": _OPERANDS, "additionalProperties": False, "minProperties": 1},
        ]
    },
    "examples": [{"errno": "ENOMEM", "counters.2048kB.surplus_hugepages": {"ge": 1}}],
}
Expect = Annotated[
    dict[str, Any],
    AfterValidator(_check),
    Field(max_length=MAX_EXPECTATIONS),
    WithJsonSchema(SCHEMA),
]


# -- comparing ---------------------------------------------------------------------------------------------


def failures(
    expect: Mapping[str, Any], answer: Mapping[str, Any], machine: Host
) -> Iterator[FailedExpectation]:
    """Every expectation that does not hold.

    Args:
        answer: what the step answered.  machine: the host after the step.
    """
    for path, wanted in expect.items():
        try:
            actual = _file(machine, path) if path.startswith("/") else dig(answer, path)
        except NoSuchPath as nothing:
            yield FailedExpectation(path, wanted, None, str(nothing))
            continue
        comparisons = wanted if isinstance(wanted, dict) else {"eq": wanted}
        for word, operand in comparisons.items():
            why = _broken(word, actual, operand)
            if why is not None:
                yield FailedExpectation(path, wanted, cut(actual), f"{path} {why}")


def _broken(word: str, actual: Any, wanted: Any) -> str | None:
    """What is wrong with a value, or None."""
    if word in ORDER and not _is_number(actual):
        return f"is {_shown(actual)}, not a number"
    if word == "contains" and not isinstance(actual, str):
        return f"is {_shown(actual)}, not a text"
    if COMPARISONS[word](actual, wanted):
        return None
    return f"is {_shown(actual)}, expected {'' if word == 'eq' else word + ' '}{_shown(wanted)}"


def _shown(value: Any) -> str:
    text = to_json(value).decode()
    return text if len(text) <= MAX_PATH else f"{text[:MAX_PATH]}..."


def _file(machine: Host, path: str) -> Any:
    """A file without its last newline, or the number behind a word of it; a file of one number is a number."""
    name, mark, word = path.partition("#")
    try:
        text = render(machine, name).removesuffix("\n")
    except MMError as error:
        raise NoSuchPath(f"{path} cannot be read: {error.detail}") from None
    if mark:
        found = re.search(rf"(?:^|\s){re.escape(word)}:?\s+(-?\d+)", text, re.MULTILINE)
        if found is None:
            raise NoSuchPath(f"{name} has no number behind {word!a}")
        text = found[1]
    if name.endswith(HEXADECIMAL):
        return text
    return int(text) if re.fullmatch(r"-?\d{1,30}", text) else text
