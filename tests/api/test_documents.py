"""The types of the client's answers follow from the schema that is served."""

import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

from hugepool import documents
from hugepool.api.documents import module
from tests.api.conftest import Api, HostApi


def schema(**parts: Any) -> dict[str, Any]:
    """A schema with one route that answers with the first part."""
    first = next(iter(parts))
    answer = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{first}"}}}}
    return {"paths": {"/": {"get": {"responses": {"200": answer}}}}, "components": {"schemas": parts}}


def classes(served: dict[str, Any]) -> dict[str, Any]:
    """What the module for a schema defines."""
    defined: dict[str, Any] = {}
    exec(module(served), defined)
    return defined


def test_a_component_is_a_class_behind_those_that_it_consists_of() -> None:
    found = classes(
        schema(
            Whole={
                "title": "Whole",
                "description": "All of it.",
                "properties": {
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
                    "count": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "How many."},
                    "kind": {"$ref": "#/components/schemas/Kind"},
                    "more": {"type": "object", "additionalProperties": True},
                    "any": {},
                },
                "required": ["parts", "count"],
            },
            Part={"title": "Part", "properties": {"state": {"enum": ["on", "off"]}}, "required": ["state"]},
            Kind={"title": "Kind", "enum": ["a", "b"]},
            Unused={"title": "Unused", "properties": {}},
        )
    )
    whole, part, hints = found["Whole"], found["Part"], get_type_hints(found["Whole"], found)
    assert (whole.__required_keys__, whole.__optional_keys__) == ({"parts", "count"}, {"kind", "more", "any"})
    assert get_args(hints["parts"]) == (part,)
    assert (hints["count"], hints["more"]) == (int | None, dict[str, Any])
    assert "count: How many." in whole.__doc__
    assert "Unused" not in found


def test_a_field_that_no_class_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="Odd has fields that no class can have: from"):
        module(schema(Odd={"title": "Odd", "properties": {"from": {}}}))


def test_the_types_name_what_the_service_answers(api: Api, host: HostApi) -> None:
    for answer, kind in (
        (host.get(), documents.Host),
        (host.get("hugepages/2048kB"), documents.HugePages),
        (host.put("hugepages/2048kB/nr_hugepages", {"count": 4}).json(), documents.Resize),
        (host.get("audit"), documents.Audit),
        (api.get("/v1/hosts").json(), documents.HostRowPage),
    ):
        assert set(answer) == set(kind.__annotations__)


def test_neither_the_client_nor_its_types_need_the_engine() -> None:
    code = (
        "import sys, hugepool.client; assert 'hugepool.documents' not in sys.modules; import hugepool.documents; "
        "assert not {'numpy', 'pydantic', 'hugepool.mm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
