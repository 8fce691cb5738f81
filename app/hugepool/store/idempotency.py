"""Answers kept for their Idempotency-Key."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from hugepool.store import seal
from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import KeyTaken

WHAT = "the answer stored for the Idempotency-Key"


@dataclass(slots=True)
class Stored:
    """An answer under its key; ``fingerprint`` tells whether a request is the same one again."""

    key: str
    fingerprint: str
    reply: dict[str, Any]
    expires_ns: int


def find(database: Database, key: str, now_ns: int) -> Stored | None:
    """The answer that is kept for a key, unless it is too old.  Raises Damaged."""
    c = t.idempotency_keys.c
    query = select(t.idempotency_keys).where(c.key == key, c.expires_ns > now_ns)
    with database.reading() as connection, seal.readable(WHAT):
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    seal.check_row(row, seal.ANSWER, WHAT)
    return Stored(row["key"], row["fingerprint"], row["reply"], row["expires_ns"])


def keep(connection: Connection, answer: Stored, now_ns: int) -> None:
    """Store an answer, in place of one that is too old; the others are forgotten in time.  Raises KeyTaken."""
    c = t.idempotency_keys.c
    connection.execute(delete(t.idempotency_keys).where(c.key == answer.key, c.expires_ns <= now_ns))
    if connection.execute(select(c.key).where(c.key == answer.key)).one_or_none():
        raise KeyTaken(answer.key)
    values = {name: getattr(answer, name) for name in seal.ANSWER}
    number = seal.of_values(values.values())
    connection.execute(insert(t.idempotency_keys).values(seal=number, **values))
