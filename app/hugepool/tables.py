"""Answers as tables: rows of plain values for CSV, Markdown and terminals, and lines of ``key value`` for a shell."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Any
MAX_DEPTH = 6  # of objects in objects that become columns
MAX_EXPANDED = 16  # objects of a list that become columns of a table
MANY = 10_000  # and that become lines


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows with a value for each; null is an empty cell."""

    columns: list[str]
    rows: list[list[Any]]


# -- out of an answer --------------------------------------------------------------------------------------


def of_answer(document: Json) -> Table:
    """The table that an answer is: a row for each entry of its main list, else one row.

    A list in pages has its entries alone; elsewhere the fields beside the list come first in each row.
    ``columns`` and ``rows`` are a table already.
    """
    if not isinstance(document, Mapping):
        return _table([{"value": cell(document)}])
    if isinstance(document.get("rows"), list) and isinstance(document.get("columns"), list):
        return Table(list(document["columns"]), [list(row) for row in document["rows"]])
    if isinstance(document.get("variants"), list):
        return _table([_variant(row) for row in document["variants"]])
    name = main_list(document)
    if name is None:
        return _table([flat(document)])
    beside = (
        {} if name == "items" else flat({key: v for key, v in document.items() if not isinstance(v, list)})
    )
    return _table([_joined(beside, name, flat(entry)) for entry in document[name]])


def _joined(beside: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Two fields of one name are told apart by the name of the list."""
    return {**beside, **{f"{name}.{key}" if key in beside else key: value for key, value in row.items()}}


def _variant(row: Mapping[str, Json]) -> dict[str, Any]:
    """A variant of a what-if question: its values, what came of it, and the columns that were asked for."""
    error, failed = row.get("error") or {}, row.get("failed_expectations") or []
    return {
        "variant": row["variant"],
        **{name: cell(value) for name, value in row["values"].items()},
        "ok": cell(row["ok"]),
        "refused": row["refused"],
        **{name: cell(value) for name, value in row["columns"].items()},
        "failed": "; ".join(each["message"] for each in failed) or None,
        "error": error.get("detail"),
    }


def main_list(document: Mapping[str, Json]) -> str | None:
    """The list of objects that a document is about: its longest, ``items`` before all others."""
    lists = {
        name: value
        for name, value in document.items()
        if isinstance(value, list) and (name == "items" or (value and isinstance(value[0], Mapping)))
    }
    return "items" if "items" in lists else max(lists, key=lambda name: len(lists[name]), default=None)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(columns, [[row.get(name) for name in columns] for row in rows])


def flat(document: Json, most: int = MAX_EXPANDED) -> dict[str, Any]:
    """Objects in objects as ``a.b``, short lists of objects as ``a.0.b``; of plain values as words, others as JSON."""
    return dict(_flat("", document, 0, most)) if isinstance(document, Mapping) else {"value": cell(document)}


def _flat(prefix: str, document: Mapping[str, Json], depth: int, most: int) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        path = f"{prefix}{name}"
        inner = _entries(value, most) if depth < MAX_DEPTH else None
        if inner:
            yield from _flat(f"{path}.", inner, depth + 1, most)
        else:
            yield path, cell(value)


def _entries(value: Json, most: int) -> Mapping[str, Json] | None:
    """What becomes columns, by name or number; None for what is one cell."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and len(value) <= most and all(isinstance(entry, Mapping) for entry in value):
        return {str(i): entry for i, entry in enumerate(value)}
    return None


def cell(value: Json) -> Any:
    """A value in one cell."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":")) if value else None
    if isinstance(value, list):
        if any(isinstance(entry, list | Mapping) for entry in value):
            return json.dumps(value, separators=(",", ":"))
        return " ".join(str(cell(entry)) for entry in value)
    return value


# -- as text -----------------------------------------------------------------------------------------------


def as_csv(table: Table) -> str:
    """RFC 4180: a header row, CRLF, an empty field for null."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown, numbers to the right."""
    rows = [[_escaped(value) for value in row] for row in table.rows]
    rule = ["---:" if _is_number_column(table, i) else "---" for i in range(len(table.columns))]
    head = [_escaped(name) for name in table.columns]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def _escaped(value: Any) -> str:
    return shown(value).replace("|", "\\|").replace("\n", " ")


def _is_number_column(table: Table, column: int) -> bool:
    values = [row[column] for row in table.rows if row[column] is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def as_lines(document: Json) -> str:
    """``key value``, one on a line: for ``while read key value``.  A list is aligned columns under a head."""
    if isinstance(document, Mapping) and not isinstance(document.get("items"), list):
        return "".join(f"{key} {_one_line(value)}\n" for key, value in flat(document, MANY).items())
    return as_columns(of_answer(document))


def as_columns(table: Table) -> str:
    """Aligned columns; an empty cell is ``-``, so that ``awk`` counts right."""
    cells = [table.columns, *([_word(value) for value in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in cells
    )


def _word(value: Any) -> str:
    return _one_line(value) or "-"


def _one_line(value: Any) -> str:
    return shown(value).replace("\n", "\\n")


def shown(value: Any) -> str:
    """A cell's text."""
    return "" if value is None else str(value)


FORMATS = {"csv": as_csv, "md": as_markdown}
