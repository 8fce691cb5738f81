"""What an attack came to: figures for people, and what failed."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_SHOWN = 20


@dataclass
class Report:
    """One kind of attack.

    Attributes:
        figures: how much of what was done.
        failures: what must not have happened, a sentence each.
        skipped: why it was not done, or None.
    """

    name: str
    figures: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    skipped: str | None = None
    seconds: float = 0.0

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""
        self.figures[what] += number

    def expect(self, true: object, failure: str) -> None:
        """Note a failure unless something is true."""
        if not true:
            self.failures.append(failure)

    def text(self) -> str:
        """The report in a few lines."""
        if self.skipped is not None:
            return f"{self.name}: skipped: {self.skipped}"
        reported = ", ".join(f"{number} {what}" for what, number in self.figures.items())
        head = f"{self.name}: {reported}; {len(self.failures)} failures, {self.seconds:.0f} s"
        return "\n".join([head, *(f"  {failure}" for failure in self.failures[:MAX_SHOWN])])


@contextmanager
def attack(name: str) -> Iterator[Report]:
    """Time an attack; one that is interrupted says what it has done so far."""
    report, began = Report(name), time.monotonic()
    try:
        yield report
    except KeyboardInterrupt:
        report.seconds = time.monotonic() - began
        sys.stdout.write(f"interrupted: {report.text()}\n")
        raise
    finally:
        report.seconds = time.monotonic() - began
