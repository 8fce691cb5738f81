"""Reading lines and numbers of a file so that every complaint names the file and the line."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from hugepool.mm.machine.errors import BadInput

LONG_MAX = (1 << 63) - 1
MAX_PAGES = 1 << 34  # 64 TiB of 4 KiB pages, and the highest page frame number
_DECIMAL = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of one file."""

    path: str
    number: int
    text: str

    def fail(self, detail: str) -> NoReturn:
        """Refuse the line."""
        raise BadInput(detail, where=f"{self.path}:{self.number}")

    def count(self, word: str, what: str, limit: int = LONG_MAX) -> int:
        """A decimal number of 0..``limit``.

        Raises:
            BadInput: no number, negative, or above the limit.
        """
        if word.startswith("-") and _DECIMAL.fullmatch(word[1:]):
            self.fail(f"{what} is {word[:40]}, and cannot be negative")
        if not _DECIMAL.fullmatch(word):
            self.fail(f"{what} is {word[:40]!r}, and must be a number")
        if len(word) > 20 or int(word) > limit:
            self.fail(f"{what} is {word[:40]}, and cannot be above {limit}")
        return int(word)

    def pages(self, word: str, what: str) -> int:
        """A number of 4 KiB pages, at most 64 TiB."""
        return self.count(word, what, MAX_PAGES)


def lines(path: str, text: str) -> Iterator[Line]:
    """The lines of a file that are not blank, numbered from 1."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Line(path, number, line)


def single(files: Mapping[str, str], path: str) -> Line | None:
    """The only line of a file, stripped; None when the file is not given.

    Raises:
        BadInput: the file has no line or more than one.
    """
    if path not in files:
        return None
    found = list(lines(path, files[path]))
    if len(found) != 1:
        raise BadInput(f"one line is expected, found {len(found)}", where=f"{path}:1")
    return Line(path, found[0].number, found[0].text.strip())


def value(files: Mapping[str, str], path: str, limit: int = LONG_MAX) -> int | None:
    """The number that a file holds; None when the file is not given."""
    line = single(files, path)
    return None if line is None else line.count(line.text, "the value", limit)


def number_list(line: Line, text: str) -> list[int]:
    """A kernel list such as ``0-3,8``: every number of it, ascending.

    Raises:
        BadInput: not such a list, or above 65535.
    Source: lib/bitmap.c bitmap_parselist() (5.14), without strides.
    """
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        low = line.count(first, "a list entry", 65535)
        high = line.count(last, "a list entry", 65535) if last else low
        if high < low or (numbers and low <= numbers[-1]):
            line.fail(f"{text[:60]!r} is not an ascending list such as 0-3,8")
        numbers.extend(range(low, high + 1))
    return numbers


def bitmap_list(numbers: Iterable[int]) -> str:
    """Numbers as the kernel lists them: ``0-3,8``.  Source: lib/vsprintf.c bitmap_list_string() (5.14)."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs) + "\n"
