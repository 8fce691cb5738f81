"""Replaying a recording: boot from its snapshot, apply its steps, compare, report."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hugepool.fs.machine import read_machine
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import SetLowmemReserveRatio
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import SectionState
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import KB_PER_PAGE
from hugepool.mm.views.vmstat import counters
from hugepool.replay.compare import MAPPING_STEPS, PROCESS_STEPS, Comparator, Row
from hugepool.replay.group_steps import mount_as_the_agent
from hugepool.replay.played import NotModelledError, Played
from hugepool.replay.player import Player
from hugepool.replay.plug import plug
from hugepool.replay.processors import find_nodes
from hugepool.replay.trace import Step, Trace, load


@dataclass(slots=True)
class Report:
    """The outcome of one replay.

    ``not_modelled``: steps without a rule, by kind.  ``inputs``: what the model was given of the recording.
    """

    name: str
    kernel: str
    steps: int = 0
    rows: list[Row] = field(default_factory=list)
    not_modelled: Counter[str] = field(default_factory=Counter)
    inputs: Counter[str] = field(default_factory=Counter)
    came_up: bool = True

    def count(self, verdict: str) -> int:
        """Rows of a verdict."""
        return sum(1 for row in self.rows if row.verdict == verdict)

    @property
    def first_off(self) -> Row | None:
        """The first counter that is off."""
        return next((row for row in self.rows if row.verdict == "off"), None)


def replay(path: Path) -> Report:
    """Replay one recording file."""
    return replay_trace(load(path))


def replay_trace(trace: Trace) -> Report:
    """Replay one recording."""
    report = Report(trace.name, trace.kernel)
    if trace.files is None or trace.boot is None:
        report.came_up = False
        return report
    host = restore_machine(read_machine(trace.files, trace.kernel), Call())
    player = Player(host, trace, _agent_pages(trace))
    report.inputs = player.inputs
    player.began_on = find_nodes(trace)
    player.adopting = _boot_holds_early_steps(trace)
    mount_as_the_agent(player)
    _settle(host)
    sections = int((host.mem.section_state == SectionState.ONLINE).sum())
    comparator = Comparator(trace, sections, counters(host), trace.boot, report.rows)
    for step in trace.steps:
        report.steps += 1
        _look_ahead(trace, step)
        try:
            played = player.play(step)
        except NotModelledError as reason:
            report.not_modelled[str(reason)] += 1
            played = Played(step.result, step.errno)
        comparator.result(step, played)
        if step.after is None:
            comparator.skip(step, played)
            continue
        if step.do in ("wait", "observe"):
            try:
                plug(host, comparator.kernel, step.after)
            except MMError as refused:
                report.not_modelled[f"memory plugged or unplugged from outside: {refused.errno}"] += 1
        comparator.compare(step, played, counters(host))
        player.adopting = False
        _settle(host)
    return report


def _look_ahead(trace: Trace, step: Step) -> None:
    """A balloon overshoots by the real allocator's batches: the snapshot says where it came to rest."""
    if "until" in step.op and step.after is not None:
        step.op["zones"] = step.after["zones"]
    if "until" not in step.op or step.index + 1 >= len(trace.steps):
        return
    probe = trace.steps[step.index + 1].op
    wanted = (step.op["until"].get("node"), step.op["until"]["allocatable_for_zone_index"])
    if probe.get("what") == "allocatable" and (probe["node"], probe["zone_index"]) == wanted:
        step.op["observed"] = probe["pages"]


def _settle(host: Host) -> None:
    """The recorder reads lowmem_reserve_ratio last, which recomputes the reserves."""
    apply(host, SetLowmemReserveRatio())


def _agent_pages(trace: Trace) -> int:
    """Resident pages of the recording agent: what a fork of it copies."""
    anon = int((trace.boot or {})["meminfo_kb"]["AnonPages"]) // KB_PER_PAGE
    if not _boot_holds_early_steps(trace):
        return anon
    early = _early_steps(trace)
    touched = sum(s.op["pages"] for s in early if s.do == "anon-grow")
    forks = 1 + sum(1 for s in early if s.do == "start")
    return int((anon - touched) // forks)


def _early_steps(trace: Trace) -> list[Step]:
    out = []
    for step in trace.steps:
        if step.after is not None:
            break
        out.append(step)
    return out


def _boot_holds_early_steps(trace: Trace) -> bool:
    """Whether the boot snapshot was read after the first steps: nothing moved up to the next snapshot."""
    early = [s for s in _early_steps(trace) if s.do in PROCESS_STEPS or s.do in MAPPING_STEPS]
    first = next((s for s in trace.steps if s.after is not None), None)
    grown = sum(s.op.get("pages", 0) for s in early if s.do == "anon-grow")
    if not early or first is None or trace.boot is None or first.do != "wait" or not first.after:
        return False
    moved = abs(first.after["free_plus_pcp_pages"] - trace.boot["free_plus_pcp_pages"])
    return bool(moved < max(64, grown // 2) and (grown or any(s.do == "start" for s in early)))
