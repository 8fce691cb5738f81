"""/openapi.json as tools want it: its schemas, examples, links and summaries; and answers packed by gzip."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from hugepool.api.schema import LONGEST_SUMMARY, MADE, summary_of
from tests.api.conftest import NR, Api, HostApi

Schema = dict[str, Any]
# Where a schema has further ones. Source: JSON Schema 2020-12.
ONE = {"items", "additionalProperties", "propertyNames", "not", "if", "then", "else", "contains"}
MANY = {"anyOf", "oneOf", "allOf", "prefixItems"}
BY_NAME = {"properties", "patternProperties", "$defs"}
WORDS = ONE | MANY | BY_NAME | {
    "$ref", "type", "enum", "const", "title", "description", "default", "examples", "example", "discriminator",
    "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "required",
    "contentMediaType", "deprecated", "readOnly",
}  # fmt: skip


def within(schema: Any) -> Iterator[Schema]:
    """A schema and all that it consists of."""
    if not isinstance(schema, dict):
        return
    yield schema
    for word, part in schema.items():
        if word in ONE:
            yield from within(part)
        elif word in MANY:
            for one in part:
                yield from within(one)
        elif word in BY_NAME:
            for one in part.values():
                yield from within(one)


def operations(served: Schema) -> Iterator[Schema]:
    for methods in served["paths"].values():
        yield from methods.values()


def contents(operation: Schema) -> Iterator[Schema]:
    """The bodies of a request and its answers."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from part.get("content", {}).values()


def schemas(served: Schema) -> Iterator[Schema]:
    """Every schema of a document, down to the smallest."""
    for component in served["components"]["schemas"].values():
        yield from within(component)
    for operation in operations(served):
        headers = [
            h for answer in operation["responses"].values() for h in answer.get("headers", {}).values()
        ]
        for holder in (*operation.get("parameters", ()), *headers, *contents(operation)):
            yield from within(holder.get("schema"))


def examples(served: Schema) -> Iterator[tuple[Schema, Any]]:
    """Every example, and the schema that it is of."""
    for operation in operations(served):
        for holder in (*operation.get("parameters", ()), *contents(operation)):
            schema = holder.get("schema", {})
            if "example" in holder:
                yield schema, holder["example"]
            for named in holder.get("examples", {}).values():
                yield schema, named["value"]
    for schema in schemas(served):
        for example in schema.get("examples", ()):
            yield schema, example


@pytest.fixture(scope="module")
def served(api: Api) -> Schema:
    found: Schema = api.get("/openapi.json").json()
    return found


def test_every_example_fits_its_schema(served: Schema) -> None:
    found = list(examples(served))
    wrong = [
        (example, error.message)
        for schema, example in found
        for error in jsonschema_rs.Draft202012Validator(
            {**schema, "components": served["components"]}
        ).iter_errors(example)
    ]
    assert wrong == []
    assert len(found) > 400


def test_schemas_have_only_words_that_tools_know_and_arrays_have_items(served: Schema) -> None:
    found = list(schemas(served))
    assert {word for schema in found for word in schema if not word.startswith("x-")} <= WORDS
    assert [schema for schema in found if schema.get("type") == "array" and "items" not in schema] == []
    assert [
        schema for schema in found if isinstance(schema.get("type"), list) and "array" in schema["type"]
    ] == []


def test_no_parameter_and_no_header_may_be_null(served: Schema) -> None:
    for operation in operations(served):
        headers = [
            h for answer in operation["responses"].values() for h in answer.get("headers", {}).values()
        ]
        for holder in (*operation.get("parameters", ()), *headers):
            assert {"type": "null"} not in holder["schema"].get("anyOf", [])
            assert "null" not in holder["schema"].get("type", "")


def test_summaries_say_what_an_operation_does(served: Schema) -> None:
    for operation in operations(served):
        summary = operation["summary"]
        assert 8 <= len(summary) <= LONGEST_SUMMARY
        assert re.match(r"[A-Z`/]", summary), summary
        assert not summary.endswith((".", ":", ";", ","))
        assert summary.lower() != operation["operationId"].replace("_", " ")


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("One page.", "One page"),
        ("Fits 6.1\nand later.  More.\n\nMuch more.", "Fits 6.1 and later"),
        ("A" * 60 + "; " + "b" * 60, "A" * 60),
        ("A" * 60 + ": " + "b" * 60, "A" * 60),
        ("A" * 99 + ": b", "A" * 99),
    ],
)
def test_a_summary_is_the_first_sentence_or_the_first_part_of_a_long_one(text: str, summary: str) -> None:
    assert summary_of(text) == summary


def test_pages_of_something_are_named_after_it(served: Schema) -> None:
    parts = served["components"]["schemas"]
    assert parts["TaskPage"]["title"] == "TaskPage"
    assert parts["TaskPage"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Task"}
    assert [name for name in parts if "_" in name] == []


def test_the_document_says_where_the_service_is_and_whose_it_is(served: Schema) -> None:
    assert served["servers"][0]["url"] == "/"
    assert served["info"]["license"]["identifier"] == "Apache-2.0"


def test_the_first_field_of_a_problem_says_what_happened_and_its_type_leads_somewhere(
    api: Api, host: HostApi, served: Schema
) -> None:
    host.put("faults/vmemmap-restore", {"times": 1})
    host.put(NR, {"count": 4})
    for answer in (host.put(NR, {"count": 0}), api.get("/v1/hosts/nobody"), api.get("/v1/hosts?limit=x")):
        assert next(iter(answer.json())) == "detail"
    assert next(iter(served["components"]["schemas"]["Problem"]["properties"])) == "detail"
    for operation in operations(served):
        for content in contents(operation):
            example = content.get("example", {})
            if "instance" in example and "reason" in example:
                assert next(iter(example)) == "detail"
                assert api.get(example["type"]).status_code == 200


# -- links -------------------------------------------------------------------------------------------------


def link_of(served: Schema, operation: str, status: int) -> Schema:
    found = next(each for each in operations(served) if each["operationId"] == operation)
    links: Schema = found["responses"][str(status)]["links"]
    return links


def address(served: Schema, link: Schema, answer: httpx.Response) -> tuple[str, str]:
    """Method and address that a link leads to from an answer."""
    method, path = next(
        (method, path)
        for path, methods in served["paths"].items()
        for method, operation in methods.items()
        if operation["operationId"] == link["operationId"]
    )
    for name, expression in link["parameters"].items():
        path = path.replace(f"{{{name}}}", str(value_of(expression, answer)))
    assert "{" not in path, path
    return method, path


def value_of(expression: str, answer: httpx.Response) -> Any:
    """A runtime expression.  Source: OpenAPI 3.1, Runtime Expressions."""
    if expression == "$request.path.host":
        return answer.request.url.path.split("/")[3]
    value = answer.json()
    for part in expression.removeprefix("$response.body#/").split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


BODIES: dict[str, tuple[str, Any]] = {
    "create_task": ("tasks", {"kind": "anon", "memory": "2M"}),
    "alloc_contig_range": ("contig-ranges", {"nr_pages": 512, "node": 0}),
    "create_mount": ("mounts", {"path": "/mnt/huge"}),
    "add_memory": ("memory-blocks", {"node": 0, "memory": "128M"}),
}


@pytest.mark.parametrize("operation", [*BODIES, "create_host", "fork_task", "keep_snapshot"])
def test_links_lead_from_what_is_made_to_what_reads_and_deletes_it(
    api: Api, host: HostApi, served: Schema, operation: str
) -> None:
    if operation == "create_host":
        made = api.post("/v1/hosts", {"name": f"{host.name}-2", "fork_of": host.name})
    elif operation == "fork_task":
        pid = host.post("tasks", {"kind": "anon", "memory": "2M"}).json()["pid"]
        made = host.post(f"tasks/{pid}/fork")
    elif operation == "keep_snapshot":
        made = host.ask("PUT", "snapshots/ready")
    else:
        made = host.post(*BODIES[operation])
    assert made.status_code == 201, made.text
    links = link_of(served, operation, 201)
    assert tuple(links) == MADE[operation][1]
    read, *_, deleted = (address(served, link, made) for link in links.values())
    assert api.ask(*read).status_code == 200
    assert (read[0], deleted[0]) == ("get", "delete")
    assert api.ask(*deleted).status_code < 300


def test_every_link_leads_to_an_operation_with_all_its_parameters(served: Schema) -> None:
    known = {operation["operationId"]: operation for operation in operations(served)}
    for operation in operations(served):
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                wanted = known[link["operationId"]].get("parameters", ())
                needed = {each["name"] for each in wanted if each["in"] == "path"}
                assert needed == link["parameters"].keys()


def test_an_answer_of_long_work_links_to_its_job(api: Api, host: HostApi, served: Schema) -> None:
    body = {"host": host.name, "steps": [{"resize": {"count": 1}}]}
    asked = api.post("/v1/what-if", body, headers={"Prefer": "respond-async"})
    assert asked.status_code == 202
    method, path = address(served, link_of(served, "ask_what_if", 202)["get_job"], asked)
    assert api.ask(method, path).json()["id"] == asked.json()["id"]
    api.ask("DELETE", path)


# -- gzip --------------------------------------------------------------------------------------------------


def test_large_answers_are_packed_for_who_takes_that(api: Api, host: HostApi) -> None:
    plain = host.ask("GET", "fs/proc/vmstat", headers={"Accept-Encoding": "identity"})
    packed = host.ask("GET", "fs/proc/vmstat", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.text == plain.text
    assert packed.headers["etag"] == plain.headers["etag"]


def test_small_answers_and_those_without_a_body_are_not_packed(host: HostApi) -> None:
    headers = {"Accept-Encoding": "gzip"}
    assert "content-encoding" not in host.ask("GET", "hugepages/2048kB", headers=headers).headers
    tag = host.ask("GET").headers["etag"]
    unchanged = host.ask("GET", headers={**headers, "If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert host.put(NR, {"count": 1}, headers=headers).status_code == 200


# -- /docs -------------------------------------------------------------------------------------------------


def test_the_docs_need_nothing_from_elsewhere(api: Api) -> None:
    page = api.get("/docs")
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert [name for name in named if "//" in name] == []
    assert "http" not in page.headers["content-security-policy"]
    assets = [name for name in named if name.startswith("/docs/assets/")]
    assert {name.rpartition(".")[2] for name in assets} == {"js", "css"}
    for name in assets:
        assert len(api.get(name).content) > 10_000
