"""What a refusal looks like.  For /openapi.json and tests: none is validated when it is sent."""

from pydantic import BaseModel, ConfigDict, Field

from hugepool.mm.machine.errors import Remedy
from hugepool.mm.machine.group_outcomes import ChangedFile
from hugepool.mm.machine.memory_outcomes import BlockChange, EjectedMemory, Moved, Poisoned, Unplugged
from hugepool.mm.machine.outcomes import Kept
from hugepool.mm.machine.pool_outcomes import Demotion, Resize
from hugepool.mm.machine.task_outcomes import StartedTask, Touched

# What a command can have done before it was refused.
Result = (
    Resize
    | Demotion
    | BlockChange
    | Unplugged
    | EjectedMemory
    | Moved
    | Poisoned
    | StartedTask
    | Touched
    | ChangedFile
    | Kept
)


class Problem(BaseModel):
    """A refusal, as RFC 9457 writes it.  There may be more facts than these."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    detail: str = Field(description="What happened, with the numbers of this case.")
    type: str = Field(
        description="With a reason, where it is explained; else the errno as a name.",
        examples=["/problems/vmemmap-restore", "urn:hugepool:errno:ENOENT"],
    )
    title: str = Field(examples=["Cannot allocate memory"])
    status: int = Field(examples=[507])
    instance: str = Field(description="The address asked, without its query.")
    errno: str = Field(examples=["ENOMEM"])
    errno_number: int = Field(examples=[12])
    reason: str | None = Field(None, description="Why, in one word of a fixed list.")
    node: int | None = None
    zone: str | None = None
    pfn: int | str | None = None
    pages_needed: int | None = None
    pages_available: int | None = None
    summary: str | None = Field(None, description="Why, in sentences with numbers.")
    remedies: list[Remedy] | None = Field(None, description="What would help.")
    errors: list["FieldError"] | None = Field(None, description="Of a malformed request: each field.")
    result: Result | None = Field(None, description="What was done before the refusal, and is kept.")


class FieldError(BaseModel):
    """One thing wrong with a request."""

    field: str
    message: str
