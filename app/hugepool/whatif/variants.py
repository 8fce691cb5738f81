"""The same question with other values: every variant read and checked first, then run, a row of a table each."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, get_type_hints

from pydantic import ValidationError

from hugepool.forms.validation import in_words
from hugepool.jobs import Refusal
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.outcomes import shallow
from hugepool.whatif.expect import FailedExpectation
from hugepool.whatif.paths import NoSuchPath, cut, dig, doubles, key_of, replaced, split
from hugepool.whatif.run import Answer, Hosts, Progress, StepAnswer, play, run
from hugepool.whatif.scenario import Column, Scenario, check, shape_of
from hugepool.whatif.shape import wrong

MAX_VARIANTS = 10_000
MAX_STEPS_IN_ALL = 100_000
MAX_SHOWN = 60
WHOLE_STEP = 2  # parts of a path that puts another step in the place of one
MAX_HOSTS = 200  # each is copied into every process that works on the question
Values = Mapping[str, Any]  # path into the document -> value


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How a step of a variant ended."""

    errno: str | None
    reason: str | None
    signal: str | None


@dataclass(frozen=True, slots=True)
class FailedInStep(FailedExpectation):
    """What was expected of a step of a variant and is not so."""

    step: int


@dataclass(frozen=True, slots=True)
class VariantRow:
    """What came of a variant.

    Attributes:
        counters: after the last step.
        columns: what `variants.columns` asked for, by path.
        missing_columns: of these, what this variant does not have, and why.
        error: why the host could not be made: errno, detail, reason, facts.
    """

    variant: int
    values: dict[str, Any]
    ok: bool
    refused: int
    steps: list[StepOutcome]
    failed_expectations: list[FailedInStep]
    counters: dict[str, Any] | None
    columns: dict[str, Any]
    missing_columns: dict[str, str]
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a question with variants.

    Attributes:
        ok: every expectation of every variant holds.
    """

    ok: bool
    variants: list[VariantRow]


# -- making them -------------------------------------------------------------------------------------------


def expand(scenario: Scenario) -> list[Values]:
    """The values of every variant, each found to make a document that can be run; none without variants.

    Raises:
        BadInput: too many; or one that is malformed, with its values.
    """
    found = combinations(scenario)
    for i, values in enumerate(found):
        checked(scenario, i, values)
    return found


def combinations(scenario: Scenario) -> list[Values]:
    """The same without a look at what the values make: ``checked`` does that, for each when its turn comes.

    Raises:
        BadInput: too many variants, or too many steps in all.
    """
    wanted = scenario.variants
    if wanted is None:
        return []
    found: list[Values] = [*wanted.rows] if wanted.rows is not None else _combined(wanted.grid or {})
    _check_columns(scenario, wanted.columns, {path for values in found for path in values})
    steps = 0
    for i, values in enumerate(found):
        steps += _nr_steps(scenario, values)
        if steps > MAX_STEPS_IN_ALL:
            raise _malformed(scenario, i, values, f"there may be {MAX_STEPS_IN_ALL} steps in all")
    return found


def _nr_steps(scenario: Scenario, values: Values) -> int:
    given = values.get("steps")
    return len(given) if isinstance(given, list) else len(scenario.steps)


def checked(scenario: Scenario, number: int, values: Values) -> Scenario:
    """The scenario of a variant.  Raises BadInput when it is malformed, with its values."""
    try:
        return variant(scenario, values)
    except BadInput as error:
        raise _malformed(scenario, number, values, error.detail) from None


def _malformed(scenario: Scenario, number: int, values: Values, detail: str) -> BadInput:
    in_list = scenario.variants is not None and scenario.variants.rows is not None
    place = f"variants.list[{number}]" if in_list else "variants.grid"
    return BadInput(f"with {_shown(values)}: {detail}", where=place)


def _combined(grid: Mapping[str, Sequence[Any]]) -> list[Values]:
    number = 1
    for values in grid.values():
        number *= len(values)
    if number > MAX_VARIANTS:
        raise BadInput(f"has {number} combinations; at most {MAX_VARIANTS} are run", where="variants.grid")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _check_columns(scenario: Scenario, columns: Sequence[Column], varied: Collection[str]) -> None:
    if (twice := doubles(column.name for column in columns)) is not None:
        raise BadInput(f"names {twice!a} a second time", where="variants.columns")
    other_steps = any(split(path)[0] == "steps" and len(split(path)) <= WHOLE_STEP for path in varied)
    for i, path in enumerate(column.path for column in columns):
        where = f"variants.columns[{i}]"
        if split(path)[0] != "steps":
            raise BadInput("a path into the answer begins with steps", where=where)
        why = None if other_steps else _leads_nowhere(scenario, split(path)[1:])
        if why is not None:
            raise BadInput(why, where=where)


def _leads_nowhere(scenario: Scenario, parts: Sequence[str]) -> str | None:
    """Why a path behind ``steps`` leads to nothing that any step answers; None: it may."""
    if not parts:
        return None
    step = key_of([{"label": step.label} for step in scenario.steps], parts[0])
    if not isinstance(step, int):
        return f"there is no step {parts[0]!r}: a number from 0, or a label, picks one"
    shape = {**get_type_hints(StepAnswer), **shape_of(scenario.steps[step])}
    return wrong(shape, parts[1:])


def _shown(values: Values) -> str:
    return ", ".join(f"{path} = {str(value)[:MAX_SHOWN]!a}" for path, value in values.items())


def variant(scenario: Scenario, values: Values) -> Scenario:
    """A scenario with other values.  Raises BadInput when they make no sense there."""
    document: Any = {key: value for key, value in scenario.given.items() if key != "variants"}
    for path, value in values.items():
        if split(path)[0] == "variants":
            raise BadInput(f"{path!r}: variants do not vary")
        try:
            document = replaced(document, path, value)
        except NoSuchPath as nothing:
            raise BadInput(str(nothing)) from None
    try:
        found = Scenario.model_validate(_with_known(document, scenario))
    except ValidationError as error:
        raise BadInput(in_words(error, document).detail) from None
    check(found)
    return found


def _with_known(document: dict[str, Any], scenario: Scenario) -> dict[str, Any]:
    """The document with what is as it was in the shape that was read already."""
    given, known = scenario.given, dict(document)
    if document["host"] is given["host"]:
        known["host"] = scenario.host
    if isinstance(document["steps"], list):
        before = {id(raw): step for raw, step in zip(given["steps"], scenario.steps, strict=True)}
        known["steps"] = [before.get(id(raw), raw) for raw in document["steps"]]
    return known


# -- running them ------------------------------------------------------------------------------------------


def row(
    scenario: Scenario, number: int, values: Values, hosts: Hosts, progress: Progress | None = None
) -> VariantRow:
    """One variant, run: its values and what came of it; a host that cannot be made is its ``error``.

    Raises:
        BadInput: the variant is malformed.
    """
    made = checked(scenario, number, values)
    columns = scenario.variants.columns if scenario.variants else []
    shown_values = {path: cut(value) for path, value in values.items()}
    try:
        answer, _ = play(made, hosts, progress)
    except MMError as error:
        return VariantRow(number, shown_values, False, 0, [], [], None, {}, {}, error.data())
    shown, missing = _columns(answer, columns)
    return VariantRow(
        variant=number,
        values=shown_values,
        ok=answer.ok,
        refused=answer.refused,
        steps=[StepOutcome(step.errno, step.reason, step.signal) for step in answer.steps],
        failed_expectations=list(_failed(answer)),
        counters=answer.steps[-1].counters,
        columns=shown,
        missing_columns=missing,
        error=None,
    )


def _columns(answer: Answer, columns: Sequence[Column]) -> tuple[dict[str, Any], dict[str, str]]:
    shown: dict[str, Any] = {}
    missing: dict[str, str] = {}
    document = asdict(answer) if columns else {}
    for column in columns:
        try:
            shown[column.name] = cut(dig(document, column.path))
        except NoSuchPath as nothing:
            shown[column.name], missing[column.name] = None, str(nothing)
    return shown, missing


def _failed(answer: Answer) -> Iterator[FailedInStep]:
    for i, step in enumerate(answer.steps):
        yield from (FailedInStep(**shallow(failure), step=i) for failure in step.failed_expectations)


def table(found: Sequence[VariantRow | Refusal]) -> Table | Refusal:
    """The answer to a question with variants; a malformed one refuses all of it."""
    rows = []
    for each in found:
        if isinstance(each, Refusal):
            return each
        rows.append(each)
    return Table(all(row.ok for row in rows), rows)


# -- as a job ----------------------------------------------------------------------------------------------


@dataclass
class Question:
    """What the processes of a job share: the document, and the stored hosts that it names."""

    document: dict[str, Any]
    hosts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def scenario(self) -> Scenario:
        """The document, read."""
        return Scenario.model_validate(self.document)


Item = tuple[int, Values] | None  # a variant with its number, or the scenario as it is


def items(variants: Sequence[Values]) -> list[Item]:
    """What a job has to do."""
    return list(enumerate(variants)) if variants else [None]


def work(question: Question, item: Item, progress: Progress) -> VariantRow | Answer | Refusal:
    """One item of a job: a row, or the whole answer; a refusal of the whole question."""
    if item is not None:
        try:
            return row(question.scenario, *item, question.hosts, progress)
        except BadInput as error:
            return Refusal(error.data())
    try:
        return run(question.scenario, question.hosts, progress)
    except MMError as error:
        return Refusal(error.data())


def is_refusal(result: Any) -> bool:
    """Whether an item's result refuses the whole question."""
    return isinstance(result, Refusal)


def one(results: Sequence[Answer | Refusal]) -> Answer | Refusal:
    """The answer of a job with one item."""
    return results[0]


def names(scenario: Scenario, variants: Sequence[Values]) -> list[str]:
    """The stored hosts that a question is about.  Raises BadInput when they are too many."""
    origins = [scenario.host, *(values["host"] for values in variants if "host" in values)]
    found = sorted({origin for origin in origins if isinstance(origin, str)})
    if len(found) > MAX_HOSTS:
        raise BadInput(f"name {len(found)} stored hosts; at most {MAX_HOSTS} are copied", where="variants")
    return found
