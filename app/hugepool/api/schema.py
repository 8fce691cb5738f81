"""/openapi.json: what the framework makes of the code, completed so that tools for OpenAPI take it as it is."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from hugepool.api import media
from hugepool.api.described import describe
from hugepool.api.documentation import problems
from hugepool.api.problem import Problem, Result
from hugepool.mm.machine.errors import Remedy

Schema = dict[str, Any]
REF = "#/components/schemas/"
LONGEST_SUMMARY = 100
SENTENCE_END = re.compile(r"\.(?=\s|$)")
GENERIC = re.compile(r"List(\w+?)_(\w+)_")
HERE: Schema = {"url": "/", "description": "The service that this document comes from."}
INFO: Schema = {
    "contact": {"name": "The hugepool authors"},
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
# What is made by a request can be read and deleted by others: operation -> status, and where its names are.
HOST, OF_HOST = {"host": "$response.body#/name"}, {"host": "$request.path.host"}
JOB = {"job": "$response.body#/id"}
MADE: dict[str, tuple[int, tuple[str, ...], dict[str, str]]] = {
    "create_host": (201, ("get_host", "list_hugepages", "set_labels", "delete_host"), HOST),
    "import_host": (201, ("get_host", "delete_host"), HOST),
    "create_task": (201, ("get_task", "exit_task"), {**OF_HOST, "pid": "$response.body#/pid"}),
    "fork_task": (201, ("get_task", "exit_task"), {**OF_HOST, "pid": "$response.body#/pid"}),
    "alloc_contig_range": (
        201,
        ("get_contig_range", "free_contig_range"),
        {**OF_HOST, "range_id": "$response.body#/id"},
    ),
    "keep_snapshot": (
        201,
        ("get_snapshot", "delete_snapshot"),
        {**OF_HOST, "snapshot": "$response.body#/name"},
    ),
    "create_mount": (201, ("get_mount", "delete_mount"), {**OF_HOST, "path": "$response.body#/path"}),
    "add_memory": (
        201,
        ("get_memory_block", "set_memory_block_state", "remove_memory"),
        {**OF_HOST, "block": "$response.body#/blocks/0"},
    ),
}


class DocumentedAPI(FastAPI):
    """An application whose schema has the problem document among its components, and describes every field."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._models: list[Any] = []
        self._added: list[BaseRoute] = []

    def every_route(self) -> list[Route]:
        """The routes of the application and those of its routers, which the framework keeps apart."""
        return [route for route in (*self.router.routes, *self._added) if isinstance(route, Route)]

    def add(self, router: APIRouter) -> None:
        """Include a router."""
        self.include_router(router)
        self._added += router.routes
        for route in router.routes:
            if isinstance(route, APIRoute):
                self._models += [route.response_model, *(r.get("model") for r in route.responses.values())]

    def openapi(self) -> Schema:
        """The schema; built once."""
        schema = super().openapi()
        if "Problem" not in schema.setdefault("components", {}).setdefault("schemas", {}):
            schema = self.openapi_schema = self._completed(schema)
        return schema

    def _completed(self, schema: Schema) -> Schema:
        _add_components(schema["components"]["schemas"], self._models)
        _add_access(schema)
        _drop_nulls(schema)
        _add_forms(schema)
        _restore_examples(schema, self.every_route())
        for _, _, operation in _operations(schema):
            operation["summary"] = summary_of(operation["description"])
        _link(schema)
        schema["info"] |= INFO
        schema["servers"] = [HERE]
        named: Schema = _renamed(schema)
        named["components"]["schemas"] = dict(sorted(named["components"]["schemas"].items()))
        return named


def _operations(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Address, method and description of every operation."""
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _add_components(parts: Schema, models: list[Any]) -> None:
    problem = Problem.model_json_schema(ref_template=REF + "{model}")
    parts.update(problem.pop("$defs", {}))
    parts["Problem"] = problem
    describe(parts, [*models, Result, Remedy])


def summary_of(text: str) -> str:
    """A description in one line: its first sentence, or the part before ``;`` or ``:`` of a long one."""
    first = " ".join(SENTENCE_END.split(text.split("\n\n", maxsplit=1)[0], maxsplit=1)[0].split())
    for end in "; ", ": ", ", ":
        if len(first) > LONGEST_SUMMARY:
            first = first.partition(end)[0]
    return first


def _restore_examples(schema: Schema, routes: Iterable[Route]) -> None:
    """Examples of answers as they were written: the framework drops what is null in them."""
    for route in routes:
        if not isinstance(route, APIRoute) or route.path_format not in schema["paths"]:
            continue
        for method in route.methods or ():
            responses = schema["paths"][route.path_format].get(method.lower(), {}).get("responses", {})
            for status, documented in route.responses.items():
                for kind, content in documented.get("content", {}).items():
                    if "example" in content:
                        responses[str(status)]["content"][kind]["example"] = content["example"]


def _link(schema: Schema) -> None:
    """Links from what makes something to what reads, changes or deletes it."""
    for _, _, operation in _operations(schema):
        name = operation["operationId"]
        if name in MADE:
            status, targets, parameters = MADE[name]
            operation["responses"][str(status)]["links"] = _links(targets, parameters)
        if "202" in operation["responses"]:
            operation["responses"]["202"]["links"] = _links(("get_job", "get_job_result", "delete_job"), JOB)


def _links(targets: Iterable[str], parameters: dict[str, str]) -> Schema:
    return {name: {"operationId": name, "parameters": parameters} for name in targets}


def _renamed(schema: Any) -> Any:
    """``ListPage_Task_`` is ``TaskPage``: generic classes are named after what they have, each in its own way."""
    if isinstance(schema, list):
        return [_renamed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {_class_name(key): _renamed(part) for key, part in schema.items()}
    if isinstance(found.get("$ref"), str):
        found["$ref"] = REF + _class_name(found["$ref"].removeprefix(REF))
    for name in schema.keys() - found.keys():
        found[_class_name(name)]["title"] = _class_name(name)
    return found


def _class_name(component: str) -> str:
    generic = GENERIC.fullmatch(component)
    return f"{generic[2]}{generic[1]}" if generic else component


def _add_access(schema: dict[str, Any]) -> None:
    """What is refused before a route is reached.

    A token may be wanted everywhere but for health; whether it is, the one who runs the service says.
    """
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{}, {"token": []}]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            public = path.startswith("/healthz/")
            if public:
                operation["security"] = []
            known = {421, *(() if public else (401, 403)), *((415,) if method == "post" else ())}
            known |= {408} if "requestBody" in operation else set()
            refusals = {str(status): answer for status, answer in problems(*known).items()}
            operation["responses"] = dict(sorted((refusals | operation["responses"]).items()))
            if not public:
                operation["responses"]["401"]["headers"] = {
                    "WWW-Authenticate": {"schema": {"type": "string"}}
                }


def _add_forms(schema: dict[str, Any]) -> None:
    """Answers with 200 can be had as a table and as lines of text as well; see ``media.as_wanted``."""
    for path, operations in schema["paths"].items():
        for operation in operations.values() if path.startswith("/v1/") else ():
            content = operation["responses"].get("200", {}).get("content", {})
            for form in (media.CSV, media.TEXT) if media.JSON in content else ():
                content.setdefault(form, {"schema": {"type": "string"}})


def _drop_nulls(schema: dict[str, Any]) -> None:
    """A header or a part of a query is there or is not; there is no null to send."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                kinds = [kind for kind in parameter["schema"].pop("anyOf", ()) if kind != {"type": "null"}]
                parameter["schema"] |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
