"""The command line: setup, record, random, diff."""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oracle import diff, scenario, setup
from oracle.group_walk import GroupWalk
from oracle.kernels import PACKAGES, OracleError, say
from oracle.machine import Machine, gib
from oracle.recorder import Recorder, record
from oracle.walk import SHAPES, Walk, shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0 done, 1 the guest was lost or a counter is off, 2 a mistake."""
    options = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except OracleError as error:
        say(f"error: {error}")
        return 2


def parser() -> argparse.ArgumentParser:
    """The four commands and their options."""
    top = argparse.ArgumentParser(prog="kernel-oracle", description="Ask a real kernel.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "setup", help="install QEMU and a compiler, fetch kernel images, build the agent"
    )
    series = " or ".join(PACKAGES)
    command.add_argument("--kernel", action="append", metavar="SERIES", help=f"{series} (default: both)")
    command.add_argument(
        "--release", help="this release, such as 6.1.0-57-cloud-amd64, not the newest that works"
    )
    command.set_defaults(run=lambda options: setup.set_up(options.kernel or list(PACKAGES), options.release))

    command = commands.add_parser("record", help="record what a kernel answers to the steps of a scenario")
    command.add_argument(
        "scenario", type=Path, help="a .yaml or .json scenario, or a recording to perform again"
    )
    _add_machine(command)
    command.set_defaults(run=_record)

    command = commands.add_parser("random", help="record random steps; the same seed asks the same")
    command.add_argument("--seed", type=int, required=True)
    command.add_argument("--steps", type=int, default=40, help="at least this many (default: 40)")
    shapes = ("any", *SHAPES)
    command.add_argument(
        "--shape", choices=shapes, default="any", help="of the machine (default: by the seed)"
    )
    command.add_argument(
        "--groups", action="store_true", help="cgroups, hugetlbfs and forks instead of pools and memory"
    )
    _add_machine(command)
    command.set_defaults(run=_random)

    command = commands.add_parser("diff", help="replay recordings on the model, and show what is off")
    command.add_argument("recordings", nargs="+", type=Path)
    command.add_argument("--show", type=int, default=5, help="counters that are off to show (default: 5)")
    command.add_argument("--timeout", type=float, default=600, help="seconds for one replay (default: 600)")
    command.set_defaults(run=lambda options: diff.diff(options.recordings, options.show, options.timeout))
    return top


def _add_machine(command: argparse.ArgumentParser) -> None:
    """Which kernel to boot on which machine, and where the recording goes."""
    kernels = "6.1, 6.12, a release that was set up, or the path of a kernel image"
    command.add_argument("--kernel", required=True, help=kernels)
    command.add_argument("--hvo", choices=("on", "off"), default="on", help="vmemmap freeing (default: on)")
    command.add_argument("--memory", help="of the guest, whole GiB (default: the scenario's, or 4G)")
    command.add_argument("--numa", help="memory of each node, with one processor each, such as 3G,1G")
    command.add_argument("--dimms", help="DIMMs that steps can plug, such as 1G,1G")
    command.add_argument("--cmdline", help="more kernel parameters, such as movablecore=2G")
    command.add_argument("-o", "--out", type=Path, required=True, help="the recording, .json.gz or .json")
    command.add_argument("--timeout", type=float, default=1500, help="seconds for everything (default: 1500)")


def _record(options: argparse.Namespace) -> int:
    found = scenario.load(options.scenario)

    def drive(recorder: Recorder) -> None:
        for step in found["steps"]:
            recorder.step(step)

    name, note = found["name"], found.get("note", "")
    return 0 if record(machine(options, found), name, note, drive, options.out, options.timeout) else 1


def _random(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)  # noqa: S311 - steps to try, no secret
    chosen = shape(machine(options, {}), options.shape, rng)
    if options.memory or options.numa or options.dimms or options.cmdline:
        chosen = machine(options, {})

    def drive(recorder: Recorder) -> None:
        (GroupWalk if options.groups else Walk)(recorder, rng).run(options.steps)

    name = f"{'groups' if options.groups else 'seed'}{options.seed}"
    note = f"random --seed {options.seed}{' --groups' if options.groups else ''}"
    return 0 if record(chosen, name, note, drive, options.out, options.timeout) else 1


def machine(options: argparse.Namespace, found: dict[str, Any]) -> Machine:
    """The machine of a scenario, but for what the command line says."""
    numa = _sizes(options.numa if options.numa is not None else found.get("numa"))
    dimms = _sizes(options.dimms if options.dimms is not None else found.get("dimms"))
    memory = str(options.memory or found.get("memory") or "4G")
    disk = str(found.get("disk") or "")
    for size in (memory, *dimms, *filter(None, [disk])):
        gib(size)
    if numa:
        memory = f"{sum(map(gib, numa))}G"
    cmdline = options.cmdline if options.cmdline is not None else found.get("cmdline", "")
    board = found.get("qemu_machine", "pc")
    return Machine(options.kernel, options.hvo == "on", memory, numa, dimms, cmdline, board, disk)


def _sizes(given: str | list[object] | None) -> tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else given or []
    return tuple(str(part).strip() for part in parts if str(part).strip())
