"""The values in addresses and queries."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator

from hugepool.forms.fields import NAME, NAME_PATTERN, SIZE_WORDS, size_word
from hugepool.service import HostNotFound


def known_form(value: str) -> str:
    """The name in an address.  A name that no host can have is a host that does not exist."""
    if not NAME.fullmatch(value):
        raise HostNotFound(value[:80])
    return value


HostInPath = Annotated[
    str,
    AfterValidator(known_form),
    Path(
        description="Name of the host.",
        json_schema_extra={"pattern": NAME_PATTERN},
        examples=["lab"],
    ),
]
SizeInPath = Annotated[
    str,
    AfterValidator(size_word),
    Path(
        description="A huge page size as sysfs writes it, or `2M`, `1G`.",
        json_schema_extra={"enum": ["2048kB", "1048576kB", *SIZE_WORDS]},
        examples=["2048kB"],
    ),
]

Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries in one answer.")]
