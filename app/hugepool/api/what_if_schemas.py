"""What answers to what-if questions look like.  For /openapi.json and tests: no answer is validated when sent."""

from typing import Any

from pydantic import BaseModel, Field

from hugepool.mm.machine.errors import Remedy


class FailedExpectation(BaseModel):
    """What was expected and is not so."""

    path: str
    expected: Any
    actual: Any
    message: str


class StepAnswer(BaseModel):
    """What a step did, or why not, and what is counted afterwards."""

    label: str | None
    step: str
    result: dict[str, Any] | None = Field(description="As the API answers; null when nothing was done.")
    errno: str | None
    reason: str | None
    detail: str | None
    summary: str | None = Field(
        description="Why it was refused or fell short, in sentences; null: it did not."
    )
    remedies: list[Remedy] = Field(description="What would help then.")
    facts: dict[str, Any]
    signal: str | None
    drained: dict[str, Any] | None = Field(description="What the worker for deferred frees did afterwards.")
    console: list[str] = Field(description="What the kernel printed.")
    counters: dict[str, Any] = Field(
        description="Pools by size, memory, vmemmap, memory_blocks, deferred_frees."
    )
    failed_expectations: list[FailedExpectation]


class Answer(BaseModel):
    """The answer to a question without variants."""

    ok: bool = Field(
        description="Every expectation holds; what was refused or fell short was expected, or might."
    )
    refused: int = Field(description="How many steps were refused.")
    steps: list[StepAnswer]


class StepOutcome(BaseModel):
    """How a step of a variant ended."""

    errno: str | None
    reason: str | None
    signal: str | None


class FailedInStep(FailedExpectation):
    """What was expected of a step of a variant and is not so."""

    step: int


class VariantRow(BaseModel):
    """What came of a variant."""

    variant: int
    values: dict[str, Any]
    ok: bool
    refused: int
    steps: list[StepOutcome]
    failed_expectations: list[FailedInStep]
    counters: dict[str, Any] | None = Field(description="After the last step.")
    columns: dict[str, Any] = Field(description="What `variants.columns` asked for, by path.")
    missing_columns: dict[str, str] = Field(description="Of these, what this variant does not have, and why.")
    error: dict[str, Any] | None = Field(
        description="Why the host could not be made: errno, detail, reason, facts."
    )


class Table(BaseModel):
    """The answer to a question with variants."""

    ok: bool = Field(description="Every expectation of every variant holds.")
    variants: list[VariantRow]
