"""A long run of the random command machine: ``python -m tests.soak --runs 400 --steps 100``.

Prints how many commands were applied, refused and checked, and stops at the first broken law.
"""

import argparse
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hugepool.mm.commands import commands as c
from tests.mm.test_random_commands import RandomCommands

seen: Counter[str] = Counter()


class CountingCommands(RandomCommands):
    """The same machine, counting what it does."""

    def apply(self, command: c.Command[Any]) -> dict[str, Any] | None:
        """Apply and count."""
        result = super().apply(command)
        seen[f"{type(command).__name__} {'refused' if result is None else 'applied'}"] += 1
        return result


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    started = time.monotonic()
    run_state_machine_as_test(
        CountingCommands,
        settings=settings(
            max_examples=options.runs,
            stateful_step_count=options.steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    for name, count in sorted(seen.items()):
        print(f"{count:8} {name}")
    print(f"{sum(seen.values()):8} commands in {time.monotonic() - started:.0f} s, all laws held after each")


if __name__ == "__main__":
    main()
