"""A host as one piece of bytes: all its rows, without its name, its number and its past.

zlib over JSON: ``form`` (``FORM``), ``host`` (the columns that the engine owns), ``tables`` (rows by table) and
``sections`` (rows in the order of ``columns``).  BLOBs are base64 text.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Column, LargeBinary, Table

from hugepool.mm.machine.state import Host
from hugepool.store import loading
from hugepool.store import tables as t
from hugepool.store.engine import to_json
from hugepool.store.huge_rows import Row
from hugepool.store.packing import LEVEL
from hugepool.store.rows import SMALL_TABLES, snapshot, stored_row
from hugepool.store.sections import COLUMNS, encode, stored_sections

FORM = "hugepool-host-1"
_OF_SECTIONS = [t.sections.c[name] for name in COLUMNS]


def pack(host: Host) -> bytes:
    """All of a host."""
    found = snapshot(host)
    tables = {
        small.table.name: [
            _texts({**dict(zip(small.keys, key, strict=True)), **stored_row(row)})
            for key, row in found[small.table.name].items()
        ]
        for small in SMALL_TABLES
    }
    sections = [[*map(_text, row)] for row in encode(host.mem, 0, stored_sections(host.mem))]
    whole = {
        "form": FORM,
        "host": found["hosts"][()],
        "tables": tables,
        "columns": COLUMNS,
        "sections": sections,
    }
    return zlib.compress(to_json(whole).encode(errors="surrogatepass"), LEVEL)


def unpack(packed: bytes) -> Host:
    """The host that was packed.  What makes no sense raises what it happens to raise: see ``seal.readable``."""
    whole = json.loads(zlib.decompress(packed).decode(errors="surrogatepass"))
    if whole["form"] != FORM or whole["columns"] != [*COLUMNS]:
        raise ValueError(f"it is of another form than {FORM}")
    sections = [
        [_value(column, value) for column, value in zip(_OF_SECTIONS, row, strict=True)]
        for row in whole["sections"]
    ]
    return loading.load(_Unpacked(whole["tables"]), SimpleNamespace(**whole["host"]), sections)


class _Unpacked:
    """The rows of the small tables."""

    def __init__(self, tables: dict[str, list[Row]]) -> None:
        self._tables = tables

    def __call__(self, table: Table, *order: str) -> Sequence[Any]:
        """Those of a table, in order of some columns."""
        columns = [column for column in table.c if column.name != "host_id"]
        found = [
            SimpleNamespace(**{column.name: _field(column, row) for column in columns})
            for row in self._tables[table.name]
        ]
        return sorted(found, key=lambda row: [getattr(row, name) for name in order])


def _field(column: Column[Any], row: Row) -> Any:
    """A column of a row; one that may be null and came later is null."""
    return _value(column, row.get(column.name) if column.nullable else row[column.name])


def _text(value: Any) -> Any:
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _texts(row: Row) -> Row:
    return {name: _text(value) for name, value in row.items()}


def _value(column: Column[Any], value: Any) -> Any:
    is_blob = isinstance(column.type, LargeBinary) and value is not None
    return b64decode(value) if is_blob else value
