"""Conditions and promises around a change: ``dry_run``, ``If-Match``, ``Idempotency-Key``, and ETags."""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from pydantic import BaseModel

from hugepool.api.access import caller_of
from hugepool.mm.machine.errors import BadInput
from hugepool.service import Idempotency, Revision, Terms

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
REVISION = re.compile(r"[0-9]{1,18}(-[0-9a-f]{8})?")
NEVER = -1  # a revision that no host has


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the caller asked for besides the change itself."""

    dry_run: bool = False
    if_match: int | str | None = None
    key: str | None = None

    def terms(self, request: Request, body: BaseModel | bytes | None) -> Terms:
        """For the service; an Idempotency-Key is tied to method, address and body."""
        idempotency = None
        if self.key is not None:
            idempotency = Idempotency(self.key, _fingerprint(request, body))
        return Terms(self.dry_run, self.if_match, idempotency, caller_of(request))


def _fingerprint(request: Request, body: BaseModel | bytes | None) -> str:
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    if isinstance(body, BaseModel):
        digest.update(body.model_dump_json().encode())
    elif body is not None:
        digest.update(body)
    return digest.hexdigest()


DryRun = Annotated[
    bool, Query(description="Answer as if it were done, and store nothing: no revision, no event.")
]
Strict = Annotated[
    bool,
    Query(
        description="Answer 409 when the pool ends elsewhere than asked; the change is kept, as the kernel leaves it."
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description='Only when the host has this `ETag`, or this revision (`"7"`); else 412 and nothing changes.',
        json_schema_extra={"pattern": r'^(\*|"[0-9]{1,18}(-[0-9a-f]{8})?")$'},
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="The same key and request within 24 hours gets the stored answer again.",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="304 without a body when the host still has this `ETag`; others are ignored.",
    ),
]


async def _of_change(
    dry_run: DryRun = False, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> Conditions:
    return Conditions(dry_run, expected_revision(if_match), idempotency_key)


async def _of_creation(dry_run: DryRun = False, idempotency_key: IdempotencyKey = None) -> Conditions:
    return Conditions(dry_run, None, idempotency_key)


Changing = Annotated[Conditions, Depends(_of_change)]
Creating = Annotated[Conditions, Depends(_of_creation)]


def expected_revision(header: str | None) -> int | str | None:
    """The revision that If-Match names: None for no header and for ``*``, ``NEVER`` for a tag of no revision.

    Raises BadInput for what is no entity tag, or several of them.
    """
    if header is None or header.strip() == "*":
        return None
    tags = entity_tags(header)
    if tags is None or len(tags) != 1:
        raise BadInput('must be one revision in double quotes such as "7", or *', where="header If-Match")
    weak, opaque = tags[0]
    if weak or not REVISION.fullmatch(opaque):
        return NEVER
    return int(opaque) if opaque.isdigit() else opaque


def entity_tags(header: str) -> list[tuple[bool, str]] | None:
    """The entity tags of a header as (weak, text); None when it is malformed."""
    matches = [_TAG.fullmatch(part.strip()) for part in header.split(",")]
    found = [(match[1] is not None, match[2]) for match in matches if match is not None]
    return found if len(found) == len(matches) else None


def etag(revision: int) -> str:
    """The entity tag of a revision."""
    return f'"{_opaque(revision)}"'


def _opaque(revision: int) -> str:
    return revision.tag if isinstance(revision, Revision) else str(revision)


def unchanged(header: str | None, revision: int) -> bool:
    """Whether If-None-Match says that the client has this revision; a malformed header says nothing."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(opaque == _opaque(revision) for _, opaque in entity_tags(header) or [])
