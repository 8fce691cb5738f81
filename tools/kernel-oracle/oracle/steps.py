"""Steps: the table of their kinds, what each kind takes, and how one is performed.

A step is an op of the recording format (docs/recordings.md) without the fields in which the kernel answers.  The kinds
are functions in ``oracle.kinds``.  To add one, write a function that performs it and returns the answer, and put
``@kind`` above it.
"""

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from oracle.guest import Guest, Reply
from oracle.kernels import OracleError

HUGE_KB = {"2M": 2048, "1G": 1048576}
FOLDERS = {  # the beginning of a short path, and the folder that it stands in
    r"vm/": "/proc/sys/",
    r"memory[\d*]+/": "/sys/devices/system/memory/",
    r"fail_page_alloc/": "/sys/kernel/debug/",
}
LIMITS = {"task": 16, "child": 16, "map": 64}  # what the agent has room for
ANSWERED = frozenset(
    {"do", "pages", "signal", "observed", "data", "file"}
)  # a recording keeps answers in these

Fields = dict[str, Any]


@dataclass
class Answer:
    """What the kernel answered: the call's result and errno, and the fields that this adds to the recorded op."""

    result: int
    errno: str | None = None
    facts: Fields = field(default_factory=dict)


Perform = Callable[[Guest, Fields, float], Answer]  # the guest, the step, seconds it may take


@dataclass(frozen=True)
class Kind:
    """A kind of step.

    Attributes:
        needs: fields that a step must have.
        may: other fields, with their defaults.
        reads_out: whether a snapshot follows unless the step says otherwise.
    """

    name: str
    needs: tuple[str, ...]
    may: Mapping[str, Any]
    reads_out: bool
    perform: Perform

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that a step of this kind can have."""
        return (*self.needs, *self.may)


KINDS: dict[str, Kind] = {}


def kind(
    name: str, needs: str = "", may: Mapping[str, Any] | None = None, *, reads_out: bool = True
) -> Callable[[Perform], Perform]:
    """Enter a function in the table of kinds."""

    def enter(perform: Perform) -> Perform:
        KINDS[name] = Kind(name, tuple(needs.split()), may or {}, reads_out, perform)
        return perform

    return enter


def long_path(path: str) -> str:
    """A path in full: 2M/…, 1G/…, node0/2M/…, vm/…, memory7/… and fail_page_alloc/… stand in the usual folders."""
    if match := re.match(r"(node\d+/)?(2M|1G)/", path):
        folder = f"/sys/devices/system/node/{match[1]}" if match[1] else "/sys/kernel/mm/"
        return f"{folder}hugepages/hugepages-{HUGE_KB[match[2]]}kB/{path[match.end() :]}"
    return next((folder + path for beginning, folder in FOLDERS.items() if re.match(beginning, path)), path)


def perform(guest: Guest, step: Fields, timeout: float) -> tuple[Fields, Answer]:
    """Perform a step; the op as it is recorded, and what the kernel answered.

    Raises:
        OracleError: not a kind of step, or fields that are missing or unknown.
    """
    op = checked(step)
    found = KINDS[op["do"]].perform(guest, op, timeout)
    return {**op, **found.facts}, found


def checked(step: object) -> Fields:
    """The step with its defaults, and paths in full.  Fields in which a recording keeps answers are left out.

    Raises:
        OracleError: not a kind of step, or fields that are missing, unknown or out of range.
    """
    if not isinstance(step, dict):
        raise OracleError(f"a step is a mapping such as {{do: wait, ms: 500}}, not {step!r}")
    found = KINDS.get(step.get("do", ""))
    if found is None:
        raise OracleError(f"unknown kind of step {step.get('do')!r} (known: {', '.join(KINDS)})")
    if missing := [name for name in found.needs if name not in step]:
        raise OracleError(f"step {found.name}: {', '.join(missing)} missing in {step}")
    if unknown := step.keys() - ANSWERED - set(found.fields):
        raise OracleError(
            f"step {found.name}: unknown {', '.join(sorted(unknown))} (known: {', '.join(found.fields)})"
        )
    given = {name: step.get(name, found.may.get(name)) for name in found.fields}
    op = {"do": found.name} | {name: value for name, value in given.items() if value is not None}
    _check_range(op)
    if "path" in op:
        op["path"] = long_path(str(op["path"]))
    if "data" in op:
        op["data"] = str(op["data"])
    return op


def _check_range(op: Fields) -> None:
    for name, most in LIMITS.items():
        if name in op and op[name] not in range(most):
            raise OracleError(f"step {op['do']}: {name} is a number from 0 to {most - 1}, not {op[name]!r}")
    if op["do"].endswith("-grow") and not {"pages", "until"} & op.keys():
        raise OracleError(f"step {op['do']}: pages or until: {{at_most: …}} missing in {op}")


# -- for the functions that perform a kind ---------------------------------------------------------------------


def answer(reply: Reply, **facts: Any) -> Answer:
    """The agent's reply as an answer, with further fields of the recorded op."""
    name = errno.errorcode.get(reply.errno, str(reply.errno)) if reply.errno else None
    return Answer(reply.result, name, facts)


def by_task(guest: Guest, op: Fields, timeout: float, command: str, *args: object) -> Reply:
    """Have the step's process do something."""
    return guest.call("task", op["task"], timeout, command, *args, timeout=timeout + 30)


def write(guest: Guest, path: str, data: str, timeout: float) -> Answer:
    """One write(2) of the agent; a signal interrupts it after ``timeout`` seconds."""
    return answer(guest.call("write", path, data, int(timeout * 1000), timeout=timeout + 30))
