"""Touches of very many huge pages: jobs that go on piece by piece, so that a host is nobody's for long.

A piece is a change like any other, durable when the next one begins.  A dry run, and a request with an
Idempotency-Key, is one piece: its answer has to be that of the whole.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from hugepool.api.access import caller_of
from hugepool.api.answers import outcome, service_of
from hugepool.api.jobs import board_of
from hugepool.api.long_work import LateAnswer, accepted
from hugepool.jobs import Report
from hugepool.mm.commands.commands import CreateTask, TouchHugePages
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Host
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


@dataclass(slots=True)
class Touch:
    """One touch on its way.  ``made``: what the request's first piece has answered beside the pages."""

    service: Service
    host: str
    terms: Terms
    reply: Reply | None = None

    def begin(self, command: CreateTask | TouchHugePages) -> bool:
        """Do the first piece; whether there may be more to do."""
        whole = self.terms.dry_run or self.terms.idempotency is not None
        self.reply = self.service.execute(self.host, command if whole else _piece(command), self.terms)
        return not whole and self.reply.error is None and (self.reply.result or {}).get("signal") is None

    def go_on(self, asked: int, report: Report) -> None:
        """Touch until all is done, or there are no more pages.  A host or task that goes meanwhile ends it."""
        while self.reply is not None and self.reply.result is not None:
            done = self.reply.result
            report(done["touched"], asked)
            if done["signal"] is not None or done["touched"] >= asked:
                return
            command = TouchHugePages(done["pid"], done["map"], min(AT_ONCE, asked - done["touched"]))
            try:
                more = self.service.execute(
                    self.host, command, Terms(caller=self.terms.caller), _with_task(done)
                )
            except MMError as refused:
                self.reply = replace(self.reply, error=refused.data())
                return
            self.reply = more
            if (more.result or {}).get("touched") == done["touched"]:
                return


def _piece(command: CreateTask | TouchHugePages) -> CreateTask | TouchHugePages:
    if isinstance(command, CreateTask):
        return replace(command, touch=min(command.touch, AT_ONCE))
    return replace(command, count=min(command.count, AT_ONCE))


def _with_task(before: dict[str, Any]) -> Callable[[Host, dict[str, Any]], dict[str, Any]]:
    """The answer of all pieces so far: of the task as it is now, and the sums."""

    def answer(machine: Host, piece: dict[str, Any]) -> dict[str, Any]:
        now = asdict(task(machine, before["pid"])) if "kind" in before else {}
        vmemmap = {name: count + piece["vmemmap"][name] for name, count in before["vmemmap"].items()}
        touched = before["touched"] + piece["touched"]
        ended = {name: piece[name] for name in ("signal", "reason", "facts")}
        return {**before, **now, **ended, "touched": touched, "vmemmap": vmemmap}

    return answer


@dataclass(frozen=True, slots=True)
class Done:
    """What a touch came to: a reply, or what was raised before anything changed."""

    reply: Reply | None
    raised: Exception | None = None

    @property
    def result(self) -> dict[str, Any] | None:
        """What a job shows."""
        return None if self.reply is None else self.reply.result


def touch(
    request: Request,
    host: str,
    command: CreateTask | TouchHugePages,
    terms: Terms,
    prefer: str | None,
    render: Callable[[Request, Reply], Response],
) -> Response:
    """Touch as a job; ``render`` makes the answer of the reply."""
    asked = command.touch if isinstance(command, CreateTask) else command.count
    work = Touch(service_of(request), host, terms)

    def act(report: Report) -> Done:
        try:
            if work.begin(command):
                work.go_on(asked, report)
        except REFUSED as refused:
            return Done(None, refused)
        return Done(work.reply)

    job = board_of(request).submit_here(
        "touch", act, owner=caller_of(request).name, about=partial(_answer, render=render)
    )
    return accepted(job, prefer) or LateAnswer(request, job)


def _answer(request: Request, done: Done, render: Callable[[Request, Reply], Response]) -> Response:
    if done.raised is not None:
        raise done.raised
    if done.reply is None:
        raise AssertionError("a touch without a reply")
    return render(request, done.reply) if done.reply.error is None else outcome(request, done.reply)
