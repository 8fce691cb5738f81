"""States that a host may be made in: machines with the steps that lead there, as scenario files next to this one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hugepool.forms.bodies import SpecBody, StateName
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.state import Host
from hugepool.whatif.document import read_scenario
from hugepool.whatif.run import Answer, play
from hugepool.whatif.scenario import BootedHost, Scenario

FOLDER = Path(__file__).parent / "states"


@dataclass(frozen=True, slots=True)
class StateRow:
    """A state: what it is, the machine that it is shown on, and the steps that make it.

    Attributes:
        spec: as the body of a new host has it.
        steps: as a what-if question has them.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    steps: list[dict[str, Any]]


@cache
def scenarios() -> Mapping[str, Scenario]:
    """The scenario of each state, by name."""
    return {file.stem: read_scenario(file).scenario for file in sorted(FOLDER.glob("*.yaml"))}


def state_rows() -> list[StateRow]:
    """All states, by name."""
    return [_row(name, scenario) for name, scenario in scenarios().items()]


def _row(name: str, scenario: Scenario) -> StateRow:
    plain = scenario.model_dump(mode="json", exclude_unset=True)
    return StateRow(
        name,
        scenario.name or name,
        (scenario.description or "").strip(),
        plain["host"]["spec"],
        plain["steps"],
    )


def make(name: StateName, spec: SpecBody | None) -> tuple[Host, list[str]]:
    """A host in a state, and what its console printed on the way.

    ``spec``: another machine than the one that the state is shown on.

    Raises:
        BadInput: the steps lead elsewhere on that machine; or there can be no such machine.
    """
    scenario = scenarios()[name]
    if spec is not None:
        scenario = scenario.model_copy(update={"host": BootedHost(spec=spec)})
    answer, host = play(scenario, {})
    if not answer.ok:
        raise BadInput(f"the state {name} is not reached on this machine: {_why(answer)}", where="spec")
    return host, [line for step in answer.steps for line in step.console]


def _why(answer: Answer) -> str:
    """The first step that went otherwise."""
    number, step = next((i, s) for i, s in enumerate(answer.steps, 1) if s.failed_expectations)
    first = step.failed_expectations[0]
    return f"step {number} ({step.step}): {first.message}"
