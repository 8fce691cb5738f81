"""What went wrong with a step although a kernel need not say so, and whether the step expects that."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hugepool.mm.machine.reasons import Reason
from hugepool.whatif.expect import FailedExpectation
from hugepool.whatif.paths import NoSuchPath, dig, split

Result = Mapping[str, Any]
OF_REFUSALS = (("errno",), ("reason",), ("detail",))  # paths that speak of a refusal


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with a step.

    Attributes:
        path: what of the step's answer shows it; ``wanted`` is what stands there when all is well.
        summary: a sentence or two with the numbers.
        reason: why, in one word.
        remedies: what would help, as plain data.
        named_by: beginnings of paths; an expectation about one of them expects the trouble.
    """

    path: str
    wanted: Any
    summary: str
    reason: str | None
    remedies: list[Any]
    named_by: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A way to fall short: where the answer shows it, whether it does, and the sentence for it."""

    path: tuple[str, ...]
    happened: Callable[[Result], bool]
    words: Callable[[Result], str]
    wanted: Callable[[Result], Any] = lambda _: None


def _stopped(result: Result) -> str:
    reason = result.get("reason")
    why = next((f" {known.meaning}" for known in Reason if known == reason), "")
    return f"{result['signal']} stopped it after {result.get('touched') or 0} huge pages.{why}"


def _kept(result: Result) -> str:
    reason = Reason.INJECTED_FAULT if result.get("injected_fault") else Reason.VMEMMAP_RESTORE
    return reason.meaning


KINDS = (
    _Kind(
        ("result", "shortfall"), lambda r: bool(r.get("shortfall")), lambda r: str(r["shortfall"]["summary"])
    ),
    _Kind(("signal",), lambda r: bool(r.get("signal")), _stopped),
    _Kind(
        ("result", "demoted"),
        lambda r: r.get("demoted", 0) < r.get("requested", 0) and "demoted" in r,
        lambda r: f"{r['demoted']} of {r['requested']} huge pages were split: no more were free.",
        lambda r: r["requested"],
    ),
    _Kind(
        ("result", "unplugged_pages"),
        lambda r: r.get("unplugged_pages", 0) < r.get("requested_pages", 0),
        lambda r: (
            f"{r['unplugged_pages']} of {r['requested_pages']} pages were taken out; the rest is in use."
        ),
        lambda r: r["requested_pages"],
    ),
    _Kind(
        ("result", "returned_as_surplus"),
        lambda r: bool(r.get("returned_as_surplus")),
        lambda r: f"{r['returned_as_surplus']} huge pages could not be freed and are surplus now. {_kept(r)}",
        lambda _: 0,
    ),
)


def of_result(result: Result | None) -> Trouble | None:
    """How a step that was not refused fell short; None when it did not."""
    kind = next((kind for kind in KINDS if result and kind.happened(result)), None)
    if kind is None or result is None:
        return None
    short = result.get("shortfall") or {}
    reason = result.get("reason") or short.get("reason")
    named_by = (kind.path, ("reason",))
    return Trouble(
        ".".join(kind.path),
        kind.wanted(result),
        kind.words(result),
        reason,
        short.get("remedies", []),
        named_by,
    )


def of_refusal(error: Mapping[str, Any]) -> Trouble:
    """A refusal, as ``MMError.data`` has it."""
    summary = error["summary"] or f"{error['detail'][:1].upper()}{error['detail'][1:].rstrip('.')}."
    return Trouble("errno", None, summary, error["reason"], error["remedies"], OF_REFUSALS)


def unexpected(
    trouble: Trouble, expect: Iterable[str], answer: Mapping[str, Any]
) -> FailedExpectation | None:
    """The trouble as an expectation that failed; None when the step expects it."""
    if any(_names(path, trouble, answer) for path in expect):
        return None
    actual = dig(answer, trouble.path)
    what = actual if trouble.path == "errno" else "falling short"
    message = f"{trouble.summary} ({what} is neither expected nor allowed by may_fail)"
    return FailedExpectation(trouble.path, trouble.wanted, actual, message)


def _names(path: str, trouble: Trouble, answer: Mapping[str, Any]) -> bool:
    """Whether an expectation is about the trouble: what it looks at is there."""
    parts = tuple(split(path))
    if not any(parts[: len(start)] == start for start in trouble.named_by):
        return False
    try:
        return dig(answer, path) is not None
    except NoSuchPath:
        return False
