"""The document of a what-if question: a host, steps, and how they may vary."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    WithJsonSchema,
    create_model,
    model_validator,
)

from hugepool.forms.bodies import Kernel, SpecBody
from hugepool.forms.fields import Body, Files, HostName, Text, at_most, refuse
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.memory_outcomes import Moved
from hugepool.mm.machine.outcomes import Kept
from hugepool.whatif.expect import ROOTS, Expect, plain
from hugepool.whatif.paths import split
from hugepool.whatif.shape import COUNTERS, Shape, answer_of, wrong
from hugepool.whatif.steps import STEPS, Label, StepKind

MAX_STEPS = 1000
MAX_COLUMNS = 100
MAX_PATHS = 16
MADE = {"pid": 1, "id": 1}  # what a step made that another refers to, as far as its shape is concerned


# -- the host ----------------------------------------------------------------------------------------------


class BootedHost(Body):
    """A machine to boot."""

    spec: SpecBody


class ReadHost(Body):
    """A real machine, read from its files."""

    files: Files
    kernel: Kernel | None = Field(None, description="The rule set, else guessed from the files.")


def _origin(value: Any) -> str | None:
    if isinstance(value, str):
        return "a stored host"
    given = value if isinstance(value, dict) else dict(value) if isinstance(value, BaseModel) else {}
    return next((tag for key, tag in (("spec", "a spec"), ("files", "files")) if key in given), None)


Origin = Annotated[
    Annotated[HostName, Tag("a stored host")]
    | Annotated[BootedHost, Tag("a spec")]
    | Annotated[ReadHost, Tag("files")],
    Discriminator(
        _origin,
        custom_error_type="origin",
        custom_error_message='must be the name of a stored host, {"spec": ...} or {"files": ...}',
    ),
    Field(description="A stored host's name, a machine to boot, or one read from its files."),
]


# -- steps -------------------------------------------------------------------------------------------------


class Step(Body):
    """What every step may have besides its word."""

    label: Label | None = Field(None, description="A name of the step, for reports and later steps.")
    expect: Expect = Field(default_factory=dict)
    may_fail: bool = Field(False, description="Being refused, or falling short, does not fail the scenario.")

    @model_validator(mode="before")
    @classmethod
    def _one_action(cls, step: Any) -> Any:
        if isinstance(step, dict):
            words = [word for word in step if word in STEPS]
            if len(words) > 1:
                raise refuse("step", f"has {' and '.join(words)}: a step does one thing")
        return step

    @property
    def word(self) -> str:
        """Which row of the table it is."""
        return next(name for name in type(self).model_fields if name in STEPS)

    @property
    def value(self) -> Any:
        """What stands next to the word."""
        return getattr(self, self.word)


def _model(kind: StepKind) -> type[Step]:
    fields: dict[str, Any] = {kind.word: (kind.value, ...), **kind.more}
    name = "".join(part.title() for part in kind.word.split("_"))
    return create_model(f"{name}Action", __base__=Step, __doc__=f"The step `{kind.word}`.", **fields)


def _word(value: Any) -> str | None:
    """The tag of a step's row.  A tag is no field, so that it is left out where errors name fields."""
    if isinstance(value, Step):
        return f"step {value.word}"
    words = [word for word in value if word in STEPS] if isinstance(value, dict) else []
    return f"step {words[0]}" if words else None


_UNKNOWN = f"needs one word that says what to do: {', '.join(STEPS)}"
if TYPE_CHECKING:
    AnyStep = Step
else:  # the types are made of the table, which a type checker cannot follow
    _MODELS = tuple(Annotated[_model(kind), Tag(f"step {kind.word}")] for kind in STEPS.values())
    AnyStep = Annotated[
        Union[_MODELS],  # noqa: UP007
        Discriminator(_word, custom_error_type="step", custom_error_message=_UNKNOWN),
    ]


# -- variants ----------------------------------------------------------------------------------------------

Path = Annotated[Text, Field(min_length=1, max_length=200, examples=["steps.0.resize.count"])]
Grid = Annotated[
    dict[Path, Annotated[list[Any], Field(min_length=1, max_length=1000)]],
    Field(min_length=1, max_length=MAX_PATHS, description="Every combination of these values, by path."),
    BeforeValidator(at_most(MAX_PATHS)),
]
Rows = Annotated[
    list[
        Annotated[
            dict[Path, Any], Field(min_length=1, max_length=MAX_PATHS), BeforeValidator(at_most(MAX_PATHS))
        ]
    ],
    Field(min_length=1, max_length=10_000, description="Values by path, variant by variant."),
]


class Column(Body):
    """A path into the answer, and what the column is called: the path itself where only that is given."""

    path: Path
    name: Annotated[Text, Field(alias="as", min_length=1, max_length=200)]


def _column(value: Any) -> Any:
    return {"path": value, "as": value} if isinstance(value, str) else value


COLUMN_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 200},
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "minLength": 1, "maxLength": 200},
                "as": {"type": "string", "minLength": 1, "maxLength": 200},
            },
            "required": ["path", "as"],
            "additionalProperties": False,
        },
    ],
    "examples": ["steps.0.result.allocated", {"path": "steps.0.result.allocated", "as": "allocated"}],
}
AnyColumn = Annotated[Column, BeforeValidator(_column), WithJsonSchema(COLUMN_SCHEMA)]


class Variants(Body):
    """The same question with other values: `grid`, every combination, or `list`, one by one."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["grid"],
                    "properties": {"grid": {"not": {"type": "null"}}, "list": {"type": "null"}},
                },
                {
                    "required": ["list"],
                    "properties": {"list": {"not": {"type": "null"}}, "grid": {"type": "null"}},
                },
            ]
        }
    )

    grid: Grid | None = None
    rows: Rows | None = Field(None, alias="list")
    columns: Annotated[list[AnyColumn], Field(max_length=MAX_COLUMNS)] = Field(
        [],
        description="Paths into the answer to show in every row, such as `steps.0.result.allocated`; `as` names one.",
    )

    @model_validator(mode="after")
    def _check(self) -> "Variants":
        if (self.grid is None) == (self.rows is None):
            raise refuse("variants", "must have exactly one of grid and list")
        plain([self.grid, self.rows])
        return self


# -- the document ------------------------------------------------------------------------------------------


class Scenario(Body):
    """A what-if question: steps on a throw-away copy of a host, all answered, nothing stored."""

    model_config = ConfigDict(title="Scenario")

    name: Annotated[Text, Field(max_length=200)] | None = Field(None, description="What reports call it.")
    description: Annotated[Text, Field(max_length=10_000)] | None = None
    host: Origin
    steps: Annotated[list[AnyStep], Field(min_length=1, max_length=MAX_STEPS)]
    variants: Variants | None = None
    _given: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_given(cls, given: Any, handler: ModelWrapValidatorHandler["Scenario"]) -> "Scenario":
        scenario = handler(given)
        if isinstance(given, dict):
            scenario._given = given  # noqa: SLF001  # its own
        return scenario

    @property
    def given(self) -> Mapping[str, Any]:
        """The document as it came, which variants are made of."""
        return self._given


def check(scenario: Scenario) -> None:
    """What only shows between steps: labels, and commands that are impossible on any host.

    Raises:
        BadInput: ``where`` names the step.
    """
    made: dict[str, str] = {}
    for i, step in enumerate(scenario.steps):
        where = f"steps[{i}]"
        _check_step(step, made, f"{where}.{step.word}")
        _check_expect(step, f"{where}.expect")
        if step.label is not None:
            if step.label in made:
                raise BadInput(f"another step is labelled {step.label!r} already", where=f"{where}.label")
            made[step.label] = step.word


def _check_step(step: Step, made: Mapping[str, str], where: str) -> None:
    kind = STEPS[step.word]
    if kind.refers is not None:
        reference = kind.refers(step.value)
        if isinstance(reference, str) and made.get(reference) not in kind.refers_to:
            words = " or ".join(kind.refers_to)
            raise BadInput(f"no {words} step before this one is labelled {reference!r}", where=where)
    elif kind.build is not None:
        try:
            kind.build(step.value, {})
        except BadInput as error:
            raise BadInput(error.message, where=f"{where}.{error.where}" if error.where else where) from None


def _check_expect(step: Step, where: str) -> None:
    """A path that leads nowhere whatever the step does is a mistake, not an expectation that fails."""
    for path in step.expect:
        if path.startswith("/"):
            continue
        why = wrong(shape_of(step), split(path))
        if why is not None:
            raise BadInput(why, where=where)


def shape_of(step: Step) -> Shape:
    """What paths into a step's answer can lead to."""
    return {**dict.fromkeys(ROOTS, str | None), "result": _result(step), "counters": COUNTERS}


def _result(step: Step) -> Shape:
    """The class of a step's result; of a write, only the host knows."""
    kind = STEPS[step.word]
    if kind.build is None:
        return {"content": str, "entries": list[Any]} if step.word == "read" else Any
    made = {str(kind.refers(step.value)): MADE} if kind.refers else {}
    try:
        return answer_of(kind.build(step.value, made)) | Kept | Moved
    except BadInput:  # refused where it is checked, or when it is run
        return Any


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario, for editors and other tools."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
