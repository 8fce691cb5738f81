"""Answers in /openapi.json: what the docstring of a dataclass says of its fields becomes their description.

The engine knows nothing of pydantic.  Its docstrings have a section ``Attributes:``, one entry for each field that its
name does not explain.
"""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

SECTION = "\n\nAttributes:\n"
INDENT = "    "


def describe(schemas: dict[str, Any], models: Iterable[Any]) -> None:
    """Complete the components of an OpenAPI schema that are answers: descriptions, and which fields are there."""
    classes = {each.__name__: each for each in dataclasses_in(models)}
    for schema in schemas.values():
        found = classes.get(schema.get("title", "").partition("[")[0])
        if found is not None:
            schema["description"] = summary_of(found)
            schema["required"] = list(
                schema["properties"]
            )  # an answer has all its fields, so none has a default
            for field in schema["properties"].values():
                field.pop("default", None)
            for name, text in attributes_of(found).items():
                schema["properties"][name]["description"] = text


def dataclasses_in(models: Iterable[Any]) -> Iterator[type[Any]]:
    """Every dataclass that models consist of, each once."""
    left, seen = list(models), set[Any]()
    while left:
        model = left.pop()
        left += get_args(model)
        model = get_origin(model) or model
        if isinstance(model, type) and is_dataclass(model) and model not in seen:
            seen.add(model)
            yield model
            left += get_type_hints(model).values()


def summary_of(cls: type[Any]) -> str:
    """The docstring of a class, without what it says of its fields."""
    return inspect.cleandoc(cls.__doc__ or "").partition(SECTION)[0]


def attributes_of(cls: type[Any]) -> dict[str, str]:
    """Descriptions of fields, also of those that a class inherits.

    Raises:
        TypeError: something is described that is no field.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            found |= _entries(inspect.cleandoc(base.__doc__ or "").partition(SECTION)[2])
    unknown = found.keys() - {field.name for field in fields(cls)}
    if unknown:
        raise TypeError(f"the docstring of {cls.__name__} describes {', '.join(unknown)}")
    return found


def _entries(section: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line.startswith(INDENT * 2):
            found[name] += f" {line.strip()}"
        else:
            name, _, text = line.strip().partition(": ")
            found[name] = text
    return {name: f"{text[:1].upper()}{text[1:]}" for name, text in found.items()}
