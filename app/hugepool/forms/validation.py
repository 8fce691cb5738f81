"""Malformed documents in words: which field, and what is expected there, for somebody who knows no code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

MAX_ERRORS = 20
MAX_WORD = 80
MAX_MESSAGE = 400


def _parts(context: Mapping[str, Any]) -> str:
    """What a length counts: a text that is checked further comes as a "Value"."""
    return "characters" if context["field_type"] == "Value" else "entries"


# pydantic's kind of error -> what is expected, with the words of its context.
SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is required",
    "extra_forbidden": lambda _: "is not a known field; see /openapi.json for those there are",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "must be a whole number of reasonable size",
    "int_from_float": lambda _: "must be a whole number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "string_type": lambda _: "must be a string",
    "string_too_short": lambda c: f"must have at least {c['min_length']} characters",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "string_pattern_mismatch": lambda c: f"must match {c['pattern']}",
    "list_type": lambda _: "must be a list",
    "tuple_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be an object",
    "model_type": lambda _: "must be an object",
    "model_attributes_type": lambda _: "must be an object",
    "too_short": lambda c: f"must have at least {c['min_length']} {_parts(c)}",
    "too_long": lambda c: f"must have at most {c['max_length']} {_parts(c)}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "greater_than_equal": lambda c: f"must be {c['ge']} or more",
    "less_than_equal": lambda c: f"must be {c['le']} or less",
    "greater_than": lambda c: f"must be more than {c['gt']}",
    "less_than": lambda c: f"must be less than {c['lt']}",
    "union_tag_not_found": lambda _: "is required: it says what the other fields mean",
    "union_tag_invalid": lambda c: f"must be one of {c['expected_tags']}",
    "json_invalid": lambda c: f"is not JSON: {c['error']}",
}
NOT_JSON = {"model_attributes_type", "model_type", "dict_type"}


@dataclass(frozen=True, slots=True)
class Described:
    """What is wrong with a request: one sentence, the list it was taken from, and the status."""

    detail: str
    errors: list[dict[str, str]]
    status: int = HTTPStatus.UNPROCESSABLE_ENTITY


def describe(errors: Sequence[Mapping[str, Any]], body: Any, content_type: str | None) -> Described:
    """Tell pydantic's errors in words; nothing of the request but field names is repeated."""
    if isinstance(body, bytes) and any(e["loc"] == ("body",) and e["type"] in NOT_JSON for e in errors):
        sent = f"not {content_type[:MAX_WORD]}" if content_type else "but none was sent"
        message = f"must be JSON with Content-Type: application/json, {sent}"
        rows = [{"field": "body", "message": message}]
        return Described(f"body: {message}", rows, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    rows = [{"field": _path(e, body), "message": _sentence(e)} for e in errors[:MAX_ERRORS]]
    more = f" (and {len(errors) - 1} more, see errors)" if len(errors) > 1 else ""
    return Described(f"{rows[0]['field']}: {rows[0]['message']}{more}", rows)


def in_words(error: ValidationError, document: Any) -> Described:
    """The same for a document that came in another way than as a request's body."""
    errors = error.errors(include_url=False, include_input=False)
    return describe([{**one, "loc": ("body", *one["loc"])} for one in errors], document, None)


def _sentence(error: Mapping[str, Any]) -> str:
    if error["loc"] == ("body",) and error["type"] == "missing":
        return "is required; JSON comes with Content-Type: application/json"
    known = SENTENCES.get(error["type"])
    return known(error.get("ctx", {})) if known else str(error["msg"])[:MAX_MESSAGE]


def _path(error: Mapping[str, Any], body: Any) -> str:
    """``spec.nodes[0].memory`` for a body's field; ``query limit``, ``path pfn`` for others."""
    place, *rest = error["loc"]
    if place != "body":
        name = str(rest[0])[:MAX_WORD] if rest else ""
        return f"{place} {name.title() if place == 'header' else name}".strip()
    if error["type"] == "json_invalid":
        return f"body (character {rest[0]})" if rest else "body"
    path = ""
    at = body
    for i, step in enumerate(rest):
        if isinstance(step, int):
            path += f"[{step}]"
            at = at[step] if isinstance(at, list) and step < len(at) else None
        elif isinstance(at, dict) and step not in at and i < len(rest) - 1:
            continue  # the tag of a union stands in the location, not in the body
        else:
            path += f".{step[:MAX_WORD]}"
            at = at.get(step) if isinstance(at, dict) else None
    if error["type"].startswith("union_tag"):
        path += "." + error["ctx"]["discriminator"].strip("'")
    return path.removeprefix(".") or "body"
