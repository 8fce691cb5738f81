"""``python -m hugepool.replay.fidelity FOLDER`` replays all recordings of a folder and writes docs/fidelity.md.

The page says, for each kernel and kind of recording, how many counters were compared, and how many were exact, within a
rule, or off.  A replay that ends in an error is counted, not hidden.
"""

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hugepool.mm.machine.profile import PROFILES
from hugepool.replay.compare import CALLS, RULES
from hugepool.replay.run import replay
from hugepool.replay.trace import load

PAGE = Path(__file__).parents[3] / "docs" / "fidelity.md"
KINDS = {
    "a": "growing, shrinking, the switch",
    "b": "more than fits",
    "c": "NUMA",
    "d": "pressure",
    "e": "surplus",
    "f": "reservations",
    "g": "memory blocks going offline",
    "h": "gigantic pages",
    "i": "pools at boot",
    "j": "DIMMs, virtio-mem",
    "m": "injected faults",
    "n": "ranges, CMA",
    "o": "movable zones, hot-added nodes",
    "p": "bad pages",
    "q": "deferred frees",
    "r": "parameters",
    "s": "cgroups",
    "t": "page cache",
    "u": "cgroups, limits and stuck pages",
    "v": "hugetlbfs, forks",
    "w": "made by hand with the oracle",
    "x": "random walks, the defects of 6.18",
}
COLUMNS = ("recordings", "nothing off", "compared", "exact", "within a rule", "off", "no rule", "failed")
MAX_NAMED = 60  # recordings with something off that are named
WORST = 90  # characters of a value that is off


@dataclass(slots=True)
class Measured:
    """What came of one recording.

    ``first_off``: the first counter that is off, as text.  ``crashed``: the replay ended in this error.
    """

    name: str
    kernel: str
    compared: int = 0
    exact: int = 0
    within: int = 0
    off: int = 0
    no_rule: int = 0
    first_off: str = ""
    crashed: str = ""
    came_up: bool = True
    inputs: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Whether nothing is off and every step has a rule."""
        return not (self.off or self.no_rule or self.crashed)

    @property
    def kind(self) -> str:
        """The letter that its name begins with."""
        return self.name[0]


def measure(path: Path) -> Measured:
    """Replay one recording; a failure of the replay is an answer."""
    trace = load(path)
    name = path.name.removesuffix(".gz").removesuffix(".json")
    try:
        report = replay(path)
    except Exception as error:  # noqa: BLE001 - a replay must not end the page, and the page must not hide it
        traceback.print_exc()
        return Measured(name, trace.kernel, crashed=f"{type(error).__name__}: {error}")
    first = report.first_off
    return Measured(
        name,
        trace.kernel,
        compared=len(report.rows),
        exact=report.count("exact"),
        within=report.count("within"),
        off=report.count("off"),
        no_rule=report.not_modelled.total(),
        first_off=f"step {first.step}, {first.counter}: {first.kernel} / {first.model}" if first else "",
        came_up=report.came_up,
        inputs=report.inputs,
    )


# -- the page --------------------------------------------------------------------------------------------


def render(measured: Sequence[Measured]) -> str:
    """The page, in Markdown."""
    parts = [
        "# How close the model is\n",
        _introduction(measured),
        "## What is compared\n",
        _rules(),
        "## Kernels\n",
        _table("kernel", _groups(measured, lambda m: m.kernel, PROFILES)),
        "## Kinds\n",
        _table("kind", _groups(measured, lambda m: m.kind, KINDS, KINDS)),
        "## Kernels and kinds\n",
        *(part for kernel in PROFILES for part in _of_kernel(measured, kernel)),
        "## Recordings with something off\n",
        _named(measured),
        "## What a replay takes from the recording\n",
        _inputs(measured),
    ]
    return "\n".join(parts)


def _introduction(measured: Sequence[Measured]) -> str:
    clean = sum(m.clean for m in measured)
    silent = sum(not m.came_up for m in measured)
    lost = f" {silent} guests did not come up, which is what these recordings show." if silent else ""
    return f"""`make fidelity` wrote this page from {len(measured)} recordings of real kernels. `TRACES=folder`
names others than those of `tests/data/traces`. In {clean} of them nothing is off, and every step has a rule.{lost}

A counter is *exact* if both values are equal, *within a rule* if a tolerance covers the difference, else *off*:
`replay/allowances.py` states each tolerance with its reason. *No rule* are steps that the replay cannot play, *failed*
are replays that ended in an error. [testing.md](testing.md#recordings) says how a replay compares.
"""


def _rules() -> str:
    lines = [_row("counter", "how closely"), _row("---", "---")]
    return "\n".join([*lines, *(_row(rule.counters, rule.closely) for rule in (*CALLS, *RULES))]) + "\n"


def _groups(
    measured: Iterable[Measured],
    key: Callable[[Measured], str],
    order: Iterable[str],
    words: dict[str, str] | None = None,
) -> dict[str, list[Measured]]:
    rows: dict[str, list[Measured]] = {}
    for name in order:
        rows[(words or {}).get(name, name)] = [m for m in measured if key(m) == name]
    return {name: group for name, group in rows.items() if group}


def _of_kernel(measured: Sequence[Measured], kernel: str) -> list[str]:
    mine = [m for m in measured if m.kernel == kernel]
    return [f"### {kernel}\n", _table("kind", _groups(mine, lambda m: m.kind, KINDS, KINDS))] if mine else []


def _table(first: str, groups: dict[str, list[Measured]]) -> str:
    lines = [_row(first, *COLUMNS), _row("---", *("---:" for _ in COLUMNS))]
    lines += [_row(name, *_sums(group)) for name, group in groups.items()]
    everything = [m for group in groups.values() for m in group]
    return "\n".join([*lines, _row("all", *_sums(everything))]) + "\n"


def _sums(group: Sequence[Measured]) -> list[str]:
    compared, exact = sum(m.compared for m in group), sum(m.exact for m in group)
    share = f" ({100 * exact / compared:.2f} %)" if compared else ""
    counts = (sum(m.within for m in group), sum(m.off for m in group), sum(m.no_rule for m in group))
    crashed = sum(bool(m.crashed) for m in group)
    clean = sum(m.clean for m in group)
    return [str(len(group)), str(clean), str(compared), f"{exact}{share}", *map(str, counts), str(crashed)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _named(measured: Sequence[Measured]) -> str:
    found = sorted((m for m in measured if not m.clean), key=lambda m: (-bool(m.crashed), -m.off, m.name))
    lines = ["The first counter that is off, as the kernel and as the model have it.\n"]
    lines += [_row("recording", "off", "no rule", "the first"), _row("---", "---:", "---:", "---")]
    for m in found[:MAX_NAMED]:
        first = (m.crashed or m.first_off).replace("|", "/")
        lines.append(
            _row(m.name, str(m.off), str(m.no_rule), first if len(first) <= WORST else first[:WORST] + "…")
        )
    if len(found) > MAX_NAMED:
        lines.append(_row(f"{len(found) - MAX_NAMED} more", "", "", ""))
    return "\n".join(lines) + "\n" if found else "None.\n"


def _inputs(measured: Sequence[Measured]) -> str:
    times: Counter[str] = Counter()
    recordings: Counter[str] = Counter()
    for m in measured:
        times.update(m.inputs)
        recordings.update(m.inputs.keys())
    lines = ["None of these is an answer of the model. Every report of a replay counts them.\n"]
    lines += [_row("input", "times", "recordings"), _row("---", "---:", "---:")]
    lines += [_row(name, str(count), str(recordings[name])) for name, count in sorted(times.items())]
    return "\n".join(lines) + "\n" if times else "Nothing.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay and write; the exit code: 2 when the folder has no recordings."""
    parser = argparse.ArgumentParser(prog="python -m hugepool.replay.fidelity", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the recordings are")
    parser.add_argument("-o", "--output", type=Path, default=PAGE, help="the page to write")
    asked = parser.parse_args(arguments)
    paths = sorted(asked.folder.glob("*.json.gz")) + sorted(asked.folder.glob("*.json"))
    if not paths:
        sys.stderr.write(f"no recordings in {asked.folder}\n")
        return 2
    measured = [measure(path) for path in paths]
    asked.output.write_text(render(measured))
    off = sum(not m.clean for m in measured)
    sys.stdout.write(f"wrote {asked.output}: {len(measured)} recordings, {off} with something off\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
