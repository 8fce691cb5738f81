"""Running a scenario on a copy of a host: step by step, each answered; the steps after a refusal run too."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic_core import to_jsonable_python

from hugepool.fs.machine import read_machine
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.commands.apply import Outcome, apply
from hugepool.mm.commands.commands import RunFreeHpageWork
from hugepool.mm.machine.digest import fork
from hugepool.mm.machine.errors import MMError, NotFound, Remedy
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.mm.machine.outcomes import Drained, shallow
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.views.host_view import memory, memory_blocks
from hugepool.mm.views.pool_view import hugepages, vmemmap_totals
from hugepool.whatif.expect import FailedExpectation, failures
from hugepool.whatif.scenario import BootedHost, ReadHost, Scenario, Step
from hugepool.whatif.shortfalls import of_refusal, of_result, unexpected
from hugepool.whatif.steps import STEPS

STEP_NS = 60 * 1_000_000_000  # a step is a minute: what the kernel prints once in a while is printed again
Progress = Callable[[int, int], None]  # how many steps are done, of how many
Hosts = Mapping[str, Host]  # stored hosts by name


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """What a step did, or why not, and what is counted afterwards.

    Attributes:
        result: as the API answers; null when nothing was done.
        summary: why it was refused or fell short, in sentences; null: it did not.
        remedies: what would help then.
        drained: what the worker for deferred frees did afterwards.
        console: what the kernel printed.
        counters: pools by size, memory, vmemmap, memory_blocks, deferred_frees.
    """

    label: str | None
    step: str
    result: dict[str, Any] | None
    errno: str | None
    reason: str | None
    detail: str | None
    summary: str | None
    remedies: list[Remedy]
    facts: dict[str, Any]
    signal: str | None
    drained: Drained | None
    console: list[str]
    counters: dict[str, Any]
    failed_expectations: list[FailedExpectation]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question without variants.

    Attributes:
        ok: every expectation holds; what was refused or fell short was expected, or might.
        refused: how many steps were refused.
    """

    ok: bool
    refused: int
    steps: list[StepAnswer]


@dataclass(slots=True)
class _State:
    """The host as the steps left it, and what those with a label made."""

    machine: Host
    names: dict[str, dict[str, Any] | None]


def run(scenario: Scenario, hosts: Hosts, progress: Progress | None = None) -> Answer:
    """All steps of a scenario, in order, on a copy of its host.

    Args:
        scenario: checked by ``scenario.check``.
        hosts: the stored hosts that it names; they stay as they are.
        progress: called after each step.

    Raises:
        MMError: there is no such host, or it cannot be booted or read.
    """
    answer, _ = play(scenario, hosts, progress)
    return answer


def play(scenario: Scenario, hosts: Hosts, progress: Progress | None = None) -> tuple[Answer, Host]:
    """The same, and the host as it is in the end."""
    state = _State(_begin(scenario, hosts), {})
    start_ns = state.machine.last_splat_ns or 0
    steps = []
    for i, step in enumerate(scenario.steps, 1):
        steps.append(_answer(state, step, start_ns + i * STEP_NS))
        if progress is not None:
            progress(i, len(scenario.steps))
    ok = not any(step.failed_expectations for step in steps)
    refused = sum(step.errno is not None for step in steps)
    return Answer(ok, refused, steps), state.machine


def _begin(scenario: Scenario, hosts: Hosts) -> Host:
    origin = scenario.host
    if isinstance(origin, BootedHost):
        return boot(origin.spec.spec(), Call())
    if isinstance(origin, ReadHost):
        return restore_machine(read_machine(origin.files, origin.kernel), Call())
    if origin not in hosts:
        raise NotFound(f"no host {origin!r}", host=origin)
    return fork(hosts[origin])


def _answer(state: _State, step: Step, now_ns: int) -> StepAnswer:
    done = _do(state, step, now_ns)
    if step.label is not None:
        state.names[step.label] = None if done.error else done.result
    drained = _drain(state, now_ns)
    error = done.error
    trouble = of_refusal(error.data()) if error else of_result(done.result)
    answer = StepAnswer(
        label=step.label,
        step=step.word,
        result=done.result,
        errno=error.errno if error else None,
        reason=trouble.reason if trouble else None,
        detail=error.detail if error else None,
        summary=trouble.summary if trouble else None,
        remedies=[Remedy(**remedy) for remedy in trouble.remedies] if trouble else [],
        facts=error.facts if error else {},
        signal=(done.result or {}).get("signal"),
        drained=drained,
        console=[data["line"] for kind, data in done.events if kind == Event.KERNEL_MESSAGE_PRINTED],
        counters=counters(state.machine),
        failed_expectations=[],
    )
    plain = shallow(answer)
    failed = list(failures(step.expect, plain, state.machine))
    if trouble is not None and not step.may_fail:
        failed += filter(None, [unexpected(trouble, step.expect, plain)])
    return replace(answer, failed_expectations=failed) if failed else answer


@dataclass(slots=True)
class _Done:
    """An outcome, its result as plain data; or a refusal that left nothing."""

    result: dict[str, Any] | None
    error: MMError | None
    events: list[Occurrence]


def _do(state: _State, step: Step, now_ns: int) -> _Done:
    """One step on a copy: the engine may leave a host half changed when it refuses."""
    trial = fork(state.machine)
    try:
        outcome: Outcome[Any] = STEPS[step.word].act(trial, step, state.names, now_ns)
    except MMError as refusal:
        return _Done(None, refusal, [])
    state.machine = trial
    return _Done(to_jsonable_python(outcome.result), outcome.error, outcome.events)


def _drain(state: _State, now_ns: int) -> Drained | None:
    """What the kernel's worker does soon after, where it is on its own."""
    if state.machine.deferred_mode != "auto" or not state.machine.deferred:
        return None
    return apply(state.machine, RunFreeHpageWork(), now_ns).result


def counters(machine: Host) -> dict[str, Any]:
    """What can be counted of a host: pools by size, memory of host and nodes, vmemmap, queue."""
    pools = {pool.pop("size"): pool for pool in map(asdict, hugepages(machine))}
    nodes = [{"node": node.nid, **asdict(memory([node]))} for node in machine.nodes]
    return {
        **pools,
        "memory": {**asdict(memory(machine.nodes)), "nodes": nodes},
        "vmemmap": asdict(vmemmap_totals(machine)),
        "memory_blocks": asdict(memory_blocks(machine)),
        "deferred_frees": len(machine.deferred),
    }
