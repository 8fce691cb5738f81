"""The plans over many hosts: each host answered alone, and what can be added up over all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hugepool.forms.fields import Body
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Host
from hugepool.whatif.plans import Answer, Question, ask
from hugepool.whatif.run import Progress

Figure = Callable[[Any], int]  # of the plan's answer


@dataclass(frozen=True, slots=True)
class Asked:
    """What the processes of a job share: the plan and its body."""

    plan: str
    body: Body


@dataclass(frozen=True, slots=True)
class Subject:
    """A host to answer for; ``host`` is None where it is gone, and ``error`` says so."""

    name: str
    revision: int
    host: Host | None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FleetRow:
    """The answer for one host.

    Attributes:
        revision: of the host as it was looked at.
        answer: null where there is none ...
        error: ... and why: errno, detail, reason, facts.
    """

    host: str
    revision: int
    answer: Answer | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class FleetAnswer:
    """A plan over many hosts.

    Attributes:
        totals: `hosts`, how many of them were `answered` and `refused`, and sums over the answers.
    """

    plan: str
    totals: dict[str, int]
    hosts: list[FleetRow]


def work(asked: Asked, subject: Subject, progress: Progress) -> FleetRow:
    """A host's row."""
    del progress  # hosts are counted
    if subject.host is None:
        return FleetRow(subject.name, 0, None, subject.error)
    try:
        answer = ask(Question(asked.plan, subject.host, asked.body))
    except MMError as error:
        return FleetRow(subject.name, subject.revision, None, error.data())
    return FleetRow(subject.name, subject.revision, answer, None)


def finish(plan: str, rows: Sequence[FleetRow]) -> FleetAnswer:
    """The answer of a job: a row for each host, and totals over those that have an answer."""
    answers = [row.answer for row in rows if row.answer is not None]
    totals = {name: sum(figure(answer) for answer in answers) for name, figure in TOTALS[plan].items()}
    counted = {"hosts": len(rows), "answered": len(answers), "refused": len(rows) - len(answers)}
    return FleetAnswer(plan, {**counted, **totals}, list(rows))


def _of(path: str) -> Figure:
    """A number of an answer; nothing counts as 0, true as 1."""

    def figure(answer: Any) -> int:
        for part in path.split("."):
            answer = None if answer is None else getattr(answer, part)
        return int(answer or 0)

    return figure


def _sizes(when: str, pick: Callable[[Any], int]) -> dict[str, Figure]:
    """Pages of each size that can be formed."""
    return {
        f"{when}_{size}": lambda answer, size=size: pick(getattr(answer, when)[size])  # type: ignore[misc]
        for size in ("2048kB", "1048576kB")
    }


TOTALS: dict[str, dict[str, Figure]] = {
    "max-pool": {
        "nr_hugepages": _of("pool.nr_hugepages"),
        "available_bytes": _of("pool.available_bytes"),
        "hosts_without_room": lambda answer: answer.pool.nr_hugepages is None,
    },
    "savings": {
        name: _of(name)
        for name in (
            "possible",
            "gross_bytes",
            "page_table_bytes",
            "net_bytes",
            "pool_bytes",
            "total_gained_bytes",
        )
    },
    "headroom": {
        "count": _of("count"),
        "needed_bytes": lambda answer: sum(each.needed_bytes for each in answer.domains),
        "available_bytes": lambda answer: sum(each.available_bytes for each in answer.domains),
    },
    "offline": {
        "bytes": _of("together.bytes"),
        "hosts_with_enough": _of("together.enough"),
        "hugepages_lost": _of("together.hugepages_lost"),
        "blocks_that_can_go": lambda answer: sum(block.can_offline for block in answer.blocks),
    },
    "placement": {
        "hosts_that_fit": _of("now.fits"),
        "hosts_that_fit_when_touched": _of("when_touched.fits"),
        "hosts_that_fit_after_a_change": _of("change.works"),
    },
    "churn": {
        **_sizes("now", int),
        **_sizes("running", lambda found: found.p50),
        **_sizes("after_exit", lambda found: found.p50),
    },
}
