"""Seals: sums that show whether rows are still what this service wrote.

A row that something else changed, removed or added makes another sum.  Each row has a number of 64 bits, the seal of a
host is their sum modulo 2**64, so a change costs what changed and not what is there.  It is no signature: who wants to
deceive can compute it.

The sum begins with ``FORMAT``, a hash of the names that rows have in this version.  A seal of another format says
nothing; the next change of the host makes a new one.  A migration removes all seals (``store.migrate``).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.exc import SQLAlchemyError

from hugepool.store import tables as t
from hugepool.store.engine import to_json
from hugepool.store.errors import Damaged, StoreFailure
from hugepool.store.huge_rows import Row
from hugepool.store.packing import Packed
from hugepool.store.rows import HOST_COLUMNS, MORE_STATE, SMALL_TABLES, Snapshot
from hugepool.store.sections import COLUMNS

MEANING = 1  # one more when rows of the same names are written in another way, without a migration
BYTES = 8
WRAP = 1 << 64
Columns = Mapping[str, Any] | RowMapping
HEAD = (
    "name",
    "kernel",
    "cmdline",
    "revision",
    "created_at",
    "last_event_id",
    "nr_sections",
    "state_seal",
)
_FIRST_BLOB = COLUMNS.index("blocks")


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=BYTES).digest())


def signed(number: int) -> int:
    """64 bits as a signed column holds them."""
    return number - WRAP if number >> 63 else number


def _format() -> str:
    names = [[small.table.name, *sorted(small.table.c.keys())] for small in SMALL_TABLES]
    described = to_json([MEANING, names, sorted(HOST_COLUMNS), sorted(MORE_STATE), COLUMNS])
    return hashlib.blake2b(described.encode(), digest_size=4).hexdigest()


FORMAT = _format()


def of_values(values: Iterable[Any]) -> int:
    """The number of a row of plain values, as a signed column holds it."""
    return signed(_number(to_json([*map(_plain, values)]).encode(errors="surrogatepass")))


def _plain(value: Any) -> Any:
    """A value in the one form that it has in memory and comes back with from any database."""
    if isinstance(value, Packed):
        return value.mark.hex()
    if isinstance(value, bytes):
        return value.hex()
    return int(value) if isinstance(value, (bool, np.bool_)) else value


def of_head(row: Columns) -> int:
    """The number of what lists and look-ups show of a host: the columns ``HEAD`` of its row."""
    return of_values(row[name] for name in HEAD)


HEADS = select(t.hosts.c.id, *(t.hosts.c[name] for name in (*HEAD, "row_seal")))


def head_of(connection: Connection, host_id: int) -> RowMapping | None:
    """The columns ``HEAD`` of a host, or None when it is gone.  Raises Damaged."""
    row = connection.execute(HEADS.where(t.hosts.c.id == host_id)).mappings().one_or_none()
    if row is not None:
        check_head(row)
    return row


def check_head(row: Columns) -> None:
    """Raises Damaged when the row of a host is not what was written."""
    if row["state_seal"] is None and row["row_seal"] is None:
        return
    if row["row_seal"] != of_head(row):
        raise Damaged(f"the row of host {str(row['name'])[:80]!a} is not what was written")


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Rows that make no sense fail in a hundred ways when they are read; each of them is damage.

    Raises:
        Damaged: whatever was raised within, but what the database itself says.
    """
    try:
        yield
    except (StoreFailure, SQLAlchemyError):
        raise
    except Exception as error:
        raise Damaged(f"{what} cannot be read: {type(error).__name__}: {error}") from error


class HostSeal:
    """The sum over the rows of a host: those of small tables, and one number for each section."""

    def __init__(self, nr_sections: int) -> None:
        self._small = 0
        self._sections: npt.NDArray[np.uint64] = np.zeros(nr_sections, np.uint64)

    def change_rows(self, before: Snapshot, now: Snapshot) -> None:
        """Account for the rows of small tables that differ."""
        for table in now:
            old, new = before.get(table, {}), now[table]
            for key in old.keys() | new.keys():
                if old.get(key) != new.get(key):
                    self._small += _of_row(table, key, new.get(key)) - _of_row(table, key, old.get(key))
        self._small %= WRAP

    def set_sections(self, rows: Sequence[Sequence[Any]]) -> None:
        """Account for rows of sections, values as ``COLUMNS``, in place of those they had."""
        if rows:
            numbers = np.array([row[1] for row in rows], np.int64)
            missing = int(numbers.max()) + 1 - self._sections.size
            if missing > 0:
                self._sections = np.concatenate((self._sections, np.zeros(missing, np.uint64)))
            self._sections[numbers] = np.array([_of_section(row) for row in rows], np.uint64)

    def text(self) -> str:
        """What the host's row has."""
        total = (self._small + int(self._sections.sum(dtype=np.uint64))) % WRAP
        return f"{FORMAT}-{total:016x}"

    def fits(self, stored: str | None) -> bool:
        """Whether a stored seal is this one, or says nothing."""
        return stored is None or stored == self.text() or not stored.startswith(FORMAT)


def _of_row(table: str, key: Sequence[Any], row: Row | None) -> int:
    if row is None:
        return 0
    values = [[name, _plain(value)] for name, value in sorted(row.items())]
    return _number(to_json([table, *key, values]).encode(errors="surrogatepass"))


def _of_section(row: Sequence[Any]) -> int:
    """All but the host, which a copy of the rows changes."""
    plain = [int(value) if isinstance(value, bool) else value for value in row[1:_FIRST_BLOB]]
    rest = [len(value) if isinstance(value, bytes) else value for value in row[_FIRST_BLOB:]]
    blobs = b"".join([value for value in row[_FIRST_BLOB:] if isinstance(value, bytes)])
    return _number(repr((plain, rest)).encode() + blobs)


# -- events, history and stored answers -----------------------------------------------------------------------------

EVENT = ("id", "revision", "time", "made_by", "type", "data")
MOMENT = ("revision", "at_ns", "cause", "figures")
CHANGE = ("host_id", "name", "revision", "at_ns", "cause")
ANSWER = ("key", "fingerprint", "expires_ns", "reply")


def check_row(row: Columns, names: Sequence[str], what: str) -> None:
    """Raises Damaged when a row with its own seal is not what was written."""
    if row["seal"] is not None and row["seal"] != of_values(row[name] for name in names):
        raise Damaged(f"{what} is not what was written")


def of_labels(labels: Mapping[str, str]) -> int:
    """The number of all labels of a host together, which every one of its labels has."""
    return of_values(sorted(labels.items()))
