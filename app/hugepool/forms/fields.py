"""The kinds of values that documents are made of."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import ULONG_MAX, memparse

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_RULE = "must be 1 to 63 of a-z, 0-9 and -, and not begin with -"
MAX_SIZE_TEXT = 40
MAX_FIELDS = 100  # of an object with named fields, known or not
MAX_MISTAKES = 200  # more are counted, not listed: a list of millions would stall the service
MAX_FILES = 100_000


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", strict=False)

    @model_validator(mode="wrap")
    @classmethod
    def _bound_errors(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(given, dict) and len(given) > MAX_FIELDS:
            raise refuse("too_many_fields", f"has {len(given)} fields; see /openapi.json for those there are")
        try:
            return handler(
                {name: _whole(value) for name, value in given.items()} if isinstance(given, dict) else given
            )
        except ValidationError as error:
            if error.error_count() > MAX_MISTAKES:
                raise refuse(
                    "too_many_mistakes", f"has {error.error_count()} mistakes, too many to list"
                ) from None
            raise


def _whole(value: Any) -> Any:
    """8.0 as 8: to JSON they are one number, and its schemas call both integers."""
    if isinstance(value, list):
        return [_whole(item) for item in value] if any(type(item) is float for item in value) else value
    return int(value) if type(value) is float and value.is_integer() else value


def refuse(kind: str, why: str) -> PydanticCustomError:
    """A validation error in our own words."""
    return PydanticCustomError(kind, "{why}", {"why": why})


def at_most_one(*names: str) -> dict[str, Any]:
    """What a schema says of fields of which at most one may be given; null is as good as none."""
    absent = {"type": "null"}
    return {"anyOf": [{"properties": {other: absent for other in names if other != name}} for name in names]}


def at_most(count: int) -> Callable[[Any], Any]:
    """Count the entries of an object before any is looked at; a list's ``max_length`` does that by itself."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > count:
            raise refuse("too_many_entries", f"must have at most {count} entries")
        return value

    return check


BINARY = re.compile(
    r"(?<=[0-9])([KMGT])i$"
)  # ``64Gi`` is ``64G``: the kernel's suffixes are powers of two, too
SIZE_WORDS = {"2M": "2048kB", "2Mi": "2048kB", "1G": "1048576kB", "1Gi": "1048576kB"}


def size_word(value: Any) -> Any:
    """A huge page size as sysfs writes it, for the words that people use."""
    return SIZE_WORDS.get(value, value) if isinstance(value, str) else value


def _size(value: Any) -> int:
    if isinstance(value, str):
        if len(value) > MAX_SIZE_TEXT:
            raise refuse("size", "is too long for a size: write bytes, or a number with K, M, G or T")
        try:
            return memparse(BINARY.sub(r"\1", value))
        except BadInput as error:
            raise refuse("size", error.detail.encode("ascii", "replace").decode()) from None
    if type(value) is not int:
        raise refuse("size", 'must be bytes as a whole number, or a size such as "64G"')
    if not 0 <= value <= ULONG_MAX:
        raise refuse("size", "must be between 0 and 2**64-1 bytes")
    return value


def _text(value: str) -> str:
    """Half of a surrogate pair is no text: nothing could store it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refuse("text", "must be valid Unicode text") from None
    return value


def _host_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise refuse("host_name", NAME_RULE)
    return value


def host_name(value: str, where: str) -> str:
    """A name for a new host.  Raises BadInput that names the field."""
    if not NAME.fullmatch(value):
        raise BadInput(NAME_RULE, where=where)
    return value


LABEL_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
MAX_LABELS = 32
LabelText = Annotated[str, Field(pattern=LABEL_PATTERN)]
Labels = Annotated[
    dict[LabelText, LabelText],
    Field(
        max_length=MAX_LABELS,
        json_schema_extra={"additionalProperties": False},
        description="Words of your own, such as a rack or a role.",
        examples=[{"rack": "7"}],
    ),
]

SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": ULONG_MAX},
        {"type": "string", "pattern": r"^(0[xX][0-9a-fA-F]{1,12}|[0-9]{1,6}([kKmMgGtT]|[KMGT]i)?)$"},
    ],
    "description": 'Bytes, or a string as the kernel command line writes sizes: `"64G"`, `"512M"`, `"64Gi"`.',
    "examples": ["64G", "64Gi", 68719476736],
}

Whole = Annotated[int, Field(strict=True)]  # "8", 8.5 and true are no whole numbers
Count = Annotated[Whole, Field(ge=0, le=ULONG_MAX)]
NodeId = Annotated[Whole, Field(ge=0, le=1023, description="Number of a NUMA node.")]
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema(SIZE_SCHEMA)]
Text = Annotated[str, AfterValidator(_text)]
Files = Annotated[
    dict[Text, Text],
    Field(max_length=MAX_FILES, description="Text of a machine's files by absolute path."),
    BeforeValidator(at_most(MAX_FILES)),
]
HostName = Annotated[
    str,
    AfterValidator(_host_name),
    Field(json_schema_extra={"pattern": NAME_PATTERN}, description="Name of the host.", examples=["lab"]),
]
