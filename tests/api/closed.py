"""Holds answers against /openapi.json with every schema closed: a field that is not declared fails."""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

REST = "{path}"  # the one parameter that takes slashes


class ClosedSchema:
    """What an application declares, with ``additionalProperties: false`` wherever a schema says nothing else."""

    def __init__(self, served: dict[str, Any]) -> None:
        self._schema = deepcopy(served)
        for part in _objects(self._schema["components"]["schemas"]):
            part.setdefault("additionalProperties", False)
        self._patterns = {path: _pattern(path) for path in served["paths"]}
        self._validator = cache(self._make_validator)

    def check(self, answer: httpx.Response) -> None:
        """Raises AssertionError for a JSON answer that is not declared, or has other fields than are declared."""
        kind = answer.headers.get("content-type", "").partition(";")[0]
        path = next(
            (p for p, pattern in self._patterns.items() if pattern.fullmatch(answer.request.url.path)), None
        )
        if path is None or not kind.endswith("json"):
            return
        method, status = answer.request.method, answer.status_code
        validator = self._validator(path, method.lower(), str(status), kind)
        if validator is not None:
            wrong = [f"{list(e.instance_path)} {e.message}" for e in validator.iter_errors(answer.json())]
            assert not wrong, f"{method} {path} {status}: {wrong}"

    def _make_validator(self, path: str, method: str, status: str, kind: str) -> Any:
        """None for a method that the address does not take."""
        operation = self._schema["paths"][path].get(method)
        if operation is None:
            return None
        declared = operation["responses"].get(status, {}).get("content", {}).get(kind, {})
        assert declared.get("schema"), f"{method} {path} declares no {kind} for {status}"
        return jsonschema_rs.Draft202012Validator(
            {**declared["schema"], "components": self._schema["components"]}
        )


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", path)
    return re.compile(
        "".join(re.escape(p) if p[:1] != "{" else ".*" if p == REST else "[^/]+" for p in parts)
    )


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that names fields."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield schema
        for part in schema.values():
            yield from _objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part)
