"""One line of the table for each figure."""

from collections.abc import Iterable
from dataclasses import dataclass

HEAD = ("name", "measured", "budget", "ratio", "verdict")


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, in words, and how it stands to its budget.

    ``ratio``: the figure in units that the budget is given in.  ``at_most``, ``at_least``: the budget; with
    neither the figure is for orientation only.
    """

    name: str
    measured: str
    ratio: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    @property
    def budget(self) -> str:
        """The budget in words."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}{self.unit}"
        return "" if self.at_least is None else f">= {self.at_least:g}{self.unit}"

    @property
    def verdict(self) -> str:
        """``ok``, ``MISSED``, or nothing for a figure without a budget."""
        if self.ratio is None or self.budget == "":
            return ""
        high = self.at_most is not None and self.ratio > self.at_most
        low = self.at_least is not None and self.ratio < self.at_least
        return "MISSED" if high or low else "ok"

    def cells(self) -> tuple[str, ...]:
        """The columns of ``HEAD``."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}{self.unit}"
        return (self.name, self.measured, self.budget, ratio, self.verdict)


def table(figures: Iterable[Figure]) -> str:
    """Figures as a text table: words to the left, numbers to the right."""
    rows = [HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = []
    for row in rows:
        words = [
            cell.rjust(w) if i in (2, 3) else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(words).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
