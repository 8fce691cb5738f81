"""Every answer is declared: schemas are closed, and docstrings of dataclasses describe their fields."""

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from hugepool.api.described import attributes_of, dataclasses_in, describe, summary_of
from hugepool.mm.views.host_view import Host
from hugepool.mm.views.pool_view import HugePages
from tests.api.closed import ClosedSchema
from tests.api.conftest import Api, HostApi

OPEN = {
    "Problem",
    "EventRow",
    "StepAnswer",
    "VariantRow",
    "FleetRow",
    "StartedTask",
    "Touched",
    "Explanation",
    "Remedy",
    "StateRow",
}  # facts by kind


def answer(method: str, path: str, body: Any, status: int = 200) -> httpx.Response:
    request = httpx.Request(method, f"http://hugepool{path}")
    return httpx.Response(status, json=body, request=request)


def named_in(schema: Any) -> set[str]:
    """The components that a piece of a schema names."""
    return set(re.findall(r"#/components/schemas/(\w+)", json.dumps(schema)))


@pytest.fixture
def declared(api: Api) -> ClosedSchema:
    return ClosedSchema(api.app.openapi())


def test_a_field_that_is_not_declared_is_found_wherever_it_is(host: HostApi, declared: ClosedSchema) -> None:
    path, body = f"{host.path}", host.get()
    declared.check(answer("GET", path, body))
    body["nodes"][0]["colour"] = "red"
    with pytest.raises(AssertionError, match="colour"):
        declared.check(answer("GET", path, body))


def test_a_field_that_is_missing_is_found(host: HostApi, declared: ClosedSchema) -> None:
    body = host.get("hugepages/2048kB")
    del body["optimized_hugepages"]
    with pytest.raises(AssertionError, match="optimized_hugepages"):
        declared.check(answer("GET", f"{host.path}/hugepages/2048kB", body))


def test_a_status_that_is_not_declared_is_found(declared: ClosedSchema) -> None:
    with pytest.raises(AssertionError, match="declares no application/json for 418"):
        declared.check(answer("GET", "/v1/hosts", {}, 418))


def test_only_what_has_no_fixed_fields_is_open(api: Api) -> None:
    served = api.app.openapi()
    parts = served["components"]["schemas"]
    answers = [operation["responses"] for path in served["paths"].values() for operation in path.values()]
    named, seen = named_in(answers), set[str]()
    while named - seen:
        seen |= named
        named = named_in([parts[name] for name in named])
    assert {name for name in seen if '"additionalProperties": true' in json.dumps(parts[name])} == OPEN


def test_every_answer_has_all_its_fields(api: Api) -> None:
    parts = api.app.openapi()["components"]["schemas"]
    assert set(parts["Law"]["required"]) == {"law", "ok", "findings", "known_defect"}


@dataclass(frozen=True, slots=True)
class Part:
    """A part.

    Attributes:
        size: how large it is,
            in pages: all of them.
    """

    size: int


@dataclass(frozen=True, slots=True)
class Whole(Part):
    """The whole.

    Attributes:
        parts: what it
            is made of.
    """

    parts: list[Part | None]


def test_docstrings_describe_fields_also_inherited_ones() -> None:
    assert summary_of(Whole) == "The whole."
    assert attributes_of(Whole) == {
        "size": "How large it is, in pages: all of them.",
        "parts": "What it is made of.",
    }
    schemas: dict[str, Any] = {"Whole": {"title": "Whole", "properties": {"size": {}, "parts": {}}}}
    describe(schemas, [list[Whole]])
    assert schemas["Whole"]["properties"]["parts"] == {"description": "What it is made of."}
    assert schemas["Whole"]["required"] == ["size", "parts"]


def test_a_docstring_that_describes_no_field_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Wrong:
        """A misspelt field.

        Attributes:
            sise: how large it is.
        """

        size: int

    with pytest.raises(TypeError, match="Wrong describes sise"):
        attributes_of(Wrong)


def test_classes_are_found_in_the_fields_of_others() -> None:
    found = set(dataclasses_in([dict[str, Host] | None]))
    assert {Host, HugePages} <= found
    assert len(found) == len(list(dataclasses_in([Host, Host])))
