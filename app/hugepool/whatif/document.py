"""Scenario files: YAML, of which JSON is a part, with the line of whatever is wrong in them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hugepool.forms.validation import in_words
from hugepool.mm.machine.errors import BadInput
from hugepool.whatif.paths import split
from hugepool.whatif.scenario import Scenario, check
from hugepool.whatif.variants import Values, expand

MAX_BYTES = 16 << 20
MAX_NODES = 1_000_000  # an alias is counted wherever it stands
MAX_DEPTH = 50
Place = tuple[str, ...]


class WrongFile(Exception):
    """A scenario file cannot be run.  ``findings``: ``file:line: what is wrong``, one for each."""

    def __init__(self, *findings: str) -> None:
        self.findings = findings
        super().__init__("\n".join(findings))


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A file that can be run: the scenario, and the values of its variants, none without."""

    path: Path
    scenario: Scenario
    variants: list[Values]

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.scenario.name or self.path.stem


class _Loader(yaml.SafeLoader):
    """Plain words mean what they mean in JSON: ``on`` and ``08`` are texts, not true and not a number."""


_Loader.yaml_implicit_resolvers = {}
_PLAIN: dict[str, tuple[str, str]] = {  # type -> (pattern, what it can begin with)
    "null": (r"~|null|", "~n"),
    "bool": (r"true|false", "tf"),
    "int": (r"-?(?:0|[1-9][0-9]{0,30})", "-0123456789"),
    "float": (r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)", "-0123456789"),
}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_first)
    )
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"\Z"), [""])


def _joined(text: str) -> str:
    """A text whose characters JSON has written as two halves."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return text  # a half alone: refused by the form


_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": _joined,
    "tag:yaml.org,2002:null": lambda _: None,
    "tag:yaml.org,2002:bool": lambda text: text == "true",
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
}
_CONTAINERS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


@dataclass
class _Reading:
    """A document on its way from nodes to values.  ``lines``: where each field stands, by its path."""

    file: Path
    lines: dict[Place, int] = field(default_factory=dict)
    nodes: int = 0

    def value(self, node: yaml.Node, place: Place = ()) -> Any:
        """The value of a node and of all within it."""
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        self.nodes += 1
        if self.nodes > MAX_NODES or len(place) > MAX_DEPTH:
            raise self.wrong(line, "the document is too large, or nested too deeply")
        if node.tag not in _SCALARS and node.tag not in _CONTAINERS:
            raise self.wrong(line, f"the tag {node.tag[:60]} is not known here")
        if isinstance(node, yaml.MappingNode):
            return dict(self._fields(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*place, str(i))) for i, entry in enumerate(node.value)]
        try:
            return _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            raise self.wrong(line, f"{node.value[:60]!a} is not what its tag says") from None

    def _fields(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self.wrong(line, "the name of a field must be a plain text")
            if key.value in seen:
                raise self.wrong(line, f"{key.value[:60]!a} is there a second time")
            seen.add(key.value)
            self.lines[*place, key.value] = line
            yield key.value, self.value(value, (*place, key.value))

    def line_of(self, path: str) -> int:
        """The line of a field as errors name it, or of what it would be in."""
        parts = tuple(split(path))
        while parts and parts not in self.lines:
            parts = parts[:-1]
        return self.lines.get(parts, 1)

    def wrong(self, line: int, message: str) -> WrongFile:
        """A refusal."""
        return WrongFile(f"{self.file}:{line}: {message}")


def read_scenario(file: Path) -> ScenarioFile:
    """Read and check a scenario file; nothing is run.

    Raises:
        WrongFile: with all that is wrong in it, as far as reading came.
    """
    reading = _Reading(file)
    document = reading.value(_compose(file))
    try:
        scenario = Scenario.model_validate(document)
        check(scenario)
        return ScenarioFile(file, scenario, expand(scenario))
    except ValidationError as error:
        mistakes = in_words(error, document).errors
        raise WrongFile(
            *(f"{file}:{reading.line_of(e['field'])}: {e['field']}: {e['message']}" for e in mistakes)
        ) from None
    except BadInput as error:
        raise reading.wrong(reading.line_of(error.where or ""), error.detail) from None


def _compose(file: Path) -> yaml.Node:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise WrongFile(f"{file}: has more than {MAX_BYTES >> 20} MiB")
        text = file.read_text("utf-8")
        if text.lstrip().startswith("{") and "\t" in text:  # JSON's blanks, which YAML does not take
            text = text.replace("\t", " ")
        node = yaml.compose(text, _Loader)
    except OSError as error:
        raise WrongFile(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongFile(f"{file}: is not UTF-8 text") from None
    except RecursionError:
        raise WrongFile(f"{file}: the document is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise WrongFile(f"{file}:{line}: is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise WrongFile(f"{file}: is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(node, yaml.MappingNode):
        raise WrongFile(f"{file}:1: must be a mapping with host and steps")
    return node
