"""Answers kept for their Idempotency-Key."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from hugepool.store import tables as t
from hugepool.store.engine import Database
from hugepool.store.errors import KeyTaken


@dataclass(slots=True)
class Stored:
    """An answer under its key; ``fingerprint`` tells whether a request is the same one again."""

    key: str
    fingerprint: str
    reply: dict[str, Any]
    expires_ns: int


def find(database: Database, key: str, now_ns: int) -> Stored | None:
    """The answer that is kept for a key, unless it is too old."""
    c = t.idempotency_keys.c
    query = select(c.key, c.fingerprint, c.reply, c.expires_ns).where(c.key == key, c.expires_ns > now_ns)
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Stored(*row)


def keep(connection: Connection, answer: Stored, now_ns: int) -> None:
    """Store an answer, in place of one that is too old; the others are forgotten in time.  Raises KeyTaken."""
    c = t.idempotency_keys.c
    connection.execute(delete(t.idempotency_keys).where(c.key == answer.key, c.expires_ns <= now_ns))
    if connection.execute(select(c.key).where(c.key == answer.key)).one_or_none():
        raise KeyTaken(answer.key)
    values = {"key": answer.key, "fingerprint": answer.fingerprint, "reply": answer.reply}
    connection.execute(insert(t.idempotency_keys).values(expires_ns=answer.expires_ns, **values))
