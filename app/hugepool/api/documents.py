"""Answers as types for Python: the components of an OpenAPI schema as a module of TypedDicts.

A client gets dictionaries; what it can know of them is in the schema that the service serves.  ``module`` writes that
down for type checkers and editors, so that the client needs nothing of the engine.
"""

from collections.abc import Iterator
from keyword import iskeyword
from textwrap import wrap
from typing import Any

WIDTH = 108
PLAIN = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "None"}
PREFIX = "#/components/schemas/"
HEAD = '''"""Answers of the service as types: what ``hugepool.client`` gives back.

Made of /openapi.json by ``python -m hugepool.openapi``; changes are made in the classes of the service.
"""

# ruff: noqa: E501

from typing import Any, Literal, NotRequired, TypedDict
'''


def module(served: dict[str, Any]) -> str:
    """The text of a module with a TypedDict, or an alias, for every component that an answer consists of."""
    parts = served["components"]["schemas"]
    names = _in_order(
        parts, _named([op["responses"] for path in served["paths"].values() for op in path.values()])
    )
    return HEAD + "".join(_declared(name, parts[name]) for name in names)


def _named(schema: Any) -> list[str]:
    """Components that a piece of a schema names, in its order."""
    if isinstance(schema, dict):
        found = (
            [schema["$ref"].removeprefix(PREFIX)] if str(schema.get("$ref", "")).startswith(PREFIX) else []
        )
        return found + [name for part in schema.values() for name in _named(part)]
    return [name for part in schema for name in _named(part)] if isinstance(schema, list) else []


def _in_order(parts: dict[str, Any], wanted: list[str]) -> list[str]:
    """The components and what they consist of, each after its own parts."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for part in _named(parts[name]):
                if part != name:
                    visit(part)
            done[name] = None

    for name in sorted(set(wanted)):
        visit(name)
    return list(done)


def _declared(name: str, schema: dict[str, Any]) -> str:
    fields = schema.get("properties")
    if fields is None:
        return f"\n{name} = {_type(schema)}\n"
    wrong = [field for field in fields if not field.isidentifier() or iskeyword(field)]
    if wrong:
        raise ValueError(f"{name} has fields that no class can have: {', '.join(wrong)}")
    required = schema.get("required", [])
    lines = [f"    {field}: {_field(of, required=field in required)}\n" for field, of in fields.items()]
    return f"\n\nclass {name}(TypedDict):\n{_docstring(schema)}\n{''.join(lines)}"


def _field(schema: dict[str, Any], *, required: bool) -> str:
    return _type(schema) if required else f"NotRequired[{_type(schema)}]"


def _docstring(schema: dict[str, Any]) -> str:
    entries = [
        line
        for field, of in schema["properties"].items()
        if of.get("description")
        for line in _lines(f"{field}: {of['description']}", " " * 8, " " * 12)
    ]
    text = "\n".join(_lines(schema.get("description") or f"{schema['title']}.", "", " " * 4))
    if not entries:
        return f'    """{text}"""\n'
    return f'    """{text}\n\n    Attributes:\n' + "\n".join(entries) + '\n    """\n'


def _lines(text: str, first: str, rest: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.replace("\\", "\\\\").split("\n\n")):
        yield from wrap(paragraph, WIDTH, initial_indent=rest if number else first, subsequent_indent=rest)


def _type(schema: dict[str, Any]) -> str:
    """A schema as a Python type; ``Any`` where it says nothing."""
    if "$ref" in schema:
        name: str = schema["$ref"].removeprefix(PREFIX)
        return name
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        words = schema["enum"] if "enum" in schema else [schema["const"]]
        return f"Literal[{', '.join(repr(word).replace(chr(39), chr(34)) for word in words)}]"
    match schema.get("type"):
        case "array":
            return f"list[{_type(schema.get('items', {}))}]"
        case "object":
            of = schema.get("additionalProperties")
            return f"dict[str, {_type(of) if isinstance(of, dict) else 'Any'}]"
        case str(kind):
            return PLAIN[kind]
    return "Any"
