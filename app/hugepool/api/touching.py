"""Changes of very many huge pages: jobs, so that no request holds a thread for long.

A touch goes on piece by piece, so that others get at the host in between; a piece is a change like any other, durable
when the next one begins.  A dry run, a request with an Idempotency-Key and a fallocate are one piece: their answer has
to be that of the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from hugepool.api.access import caller_of
from hugepool.api.answers import outcome, service_of
from hugepool.api.jobs import board_of
from hugepool.api.long_work import late
from hugepool.jobs import Report
from hugepool.mm.commands.commands import CreateTask, FallocateFile, TouchHugePages
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.outcomes import shallow
from hugepool.mm.machine.state import Host, VmemmapDelta
from hugepool.mm.machine.task_outcomes import StartedTask, Touched
from hugepool.mm.views.task_view import task
from hugepool.service import (
    IdempotencyMismatch,
    PreconditionFailed,
    Reply,
    Service,
    StoreFailure,
    Terms,
)

AT_ONCE = 1 << 16  # pages; a touch of more is a job, and this is its piece
REFUSED = (MMError, PreconditionFailed, IdempotencyMismatch, StoreFailure)


Command = CreateTask | TouchHugePages | FallocateFile


@dataclass(slots=True)
class Touch:
    """One touch on its way.  ``reply``: what the pieces so far have come to."""

    service: Service
    host: str
    terms: Terms
    command: Any
    reply: Reply | None = None

    def begin(self) -> bool:
        """Do the first piece; whether there may be more to do."""
        at_once = self.terms.dry_run or self.terms.idempotency is not None
        whole = at_once or isinstance(self.command, FallocateFile) or not self._is_mapped()
        first = self.command if whole else _piece(self.command)
        self.reply = self.service.execute(self.host, first, self.terms)
        return not whole and self.reply.error is None and self.reply.data.get("signal") is None

    def _is_mapped(self) -> bool:
        """Whether all of a range of pages is there; if not, the engine has to refuse it before anything is touched."""
        asked = self.command
        if not isinstance(asked, TouchHugePages) or asked.first is None:
            return True
        found, _ = self.service.read(self.host, lambda machine: task(machine, asked.pid))
        counts = {mapping.map: mapping.count for mapping in found.maps}
        return asked.first + asked.count <= counts.get(asked.map_id, 0)

    def go_on(self, report: Report) -> None:
        """Touch until all is done, or there are no more pages.  A host or task that goes meanwhile ends it."""
        asked = size(self.command)
        while self.reply is not None and self.reply.result is not None:
            done = self.reply.result
            report(done.touched, asked)
            if done.signal is not None or done.touched >= asked:
                return
            terms = Terms(caller=self.terms.caller)
            try:
                self.reply = self.service.execute(self.host, self._next(done), terms, _with_task(done))
            except MMError as refused:
                self.reply = replace(self.reply, error=refused.data())
                return
            if self.reply.data.get("touched") == done.touched:
                return

    def _next(self, done: StartedTask | Touched) -> TouchHugePages:
        count = min(AT_ONCE, size(self.command) - (done.touched or 0))
        if isinstance(self.command, TouchHugePages):
            first = self.command.first
            return replace(
                self.command, count=count, first=None if first is None else first + (done.touched or 0)
            )
        return TouchHugePages(done.pid, done.map or 0, count)


def size(command: Command) -> int:
    """How many huge pages a command touches at most."""
    return command.touch if isinstance(command, CreateTask) else command.count


def _piece(command: CreateTask | TouchHugePages) -> CreateTask | TouchHugePages:
    if isinstance(command, CreateTask):
        return replace(command, touch=min(command.touch, AT_ONCE))
    return replace(command, count=min(command.count, AT_ONCE))


def _with_task(before: StartedTask | Touched) -> Callable[[Host, Touched], StartedTask | Touched]:
    """The answer of all pieces so far: of the task as it is now, and the sums."""

    def answer(machine: Host, piece: Touched) -> StartedTask | Touched:
        now = shallow(task(machine, before.pid)) if isinstance(before, StartedTask) else {}
        ended: dict[str, Any] = {"signal": piece.signal, "reason": piece.reason, "facts": piece.facts}
        touched = (before.touched or 0) + piece.touched
        injected = before.injected_fault or piece.injected_fault
        vmemmap = _sum(before.vmemmap or VmemmapDelta(), piece.vmemmap)
        return replace(before, **now, **ended, touched=touched, vmemmap=vmemmap, injected_fault=injected)

    return answer


def _sum(one: VmemmapDelta, other: VmemmapDelta) -> VmemmapDelta:
    return VmemmapDelta(
        one.pages_freed + other.pages_freed,
        one.pages_restored + other.pages_restored,
        one.page_table_pages + other.page_table_pages,
    )


@dataclass(frozen=True, slots=True)
class Done:
    """What a touch came to: a reply, or what was raised before anything changed."""

    reply: Reply | None
    raised: Exception | None = None

    @property
    def result(self) -> Any:
        """What a job shows."""
        return None if self.reply is None else self.reply.result


def change(
    request: Request,
    host: str,
    command: Any,
    terms: Terms,
    prefer: str | None,
    render: Callable[[Request, Reply], Response] = outcome,
) -> Response:
    """Send a command down the road, as a job when it touches very many pages; ``render`` makes the answer."""
    service = service_of(request)
    if not isinstance(command, Command) or size(command) <= AT_ONCE:
        return render(request, service.execute(host, command, terms))
    work = Touch(service, host, terms, command)

    def act(report: Report) -> Done:
        try:
            if work.begin():
                work.go_on(report)
        except REFUSED as refused:
            return Done(None, refused)
        return Done(work.reply)

    job = board_of(request).submit_here(
        "touch", act, owner=caller_of(request).name, about=partial(_answer, render=render)
    )
    return late(request, job, prefer)


def _answer(request: Request, done: Done, render: Callable[[Request, Reply], Response]) -> Response:
    if done.raised is not None:
        raise done.raised
    if done.reply is None:
        raise AssertionError("a touch without a reply")
    return render(request, done.reply) if done.reply.error is None else outcome(request, done.reply)
