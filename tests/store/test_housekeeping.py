"""Limits of time and of size: what is old goes, its room is given back, and what is young stays."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.service import Idempotency, Service, Terms
from hugepool.settings import Settings
from hugepool.store import engine, housekeeping, sqlite
from hugepool.store import tables as t

HOUR_NS = 3600 * 10**9
SMALL = HostSpec((NodeSpec(1 << 30),))


@pytest.fixture
def clock() -> list[int]:
    return [1_700_000_000 * 10**9]


@pytest.fixture
def service(tmp_path: Path, clock: list[int]) -> Iterator[Service]:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'hugepool.db'}", events_kept=20)
    found = Service(settings, lambda: clock[0])
    found.start()
    found.create("lab", SMALL, Terms())
    yield found
    found.close()


def keys(service: Service) -> set[str]:
    with service._database.reading() as connection:
        return set(connection.execute(select(t.idempotency_keys.c.key)).scalars())


def resize(service: Service, count: int, key: str | None = None, name: str = "lab") -> Any:
    terms = Terms(idempotency=Idempotency(key, "same") if key else None)
    return service.execute(name, c.SetMaxHugePages(9, count), terms)


def test_only_the_newest_events_are_kept_and_numbers_go_on(service: Service) -> None:
    service.create("quiet", SMALL, Terms())
    before = service.events("quiet", 0, 1000)
    for count in range(1, 61):
        resize(service, count % 2)
    last = service.events("lab", 0, 10_000)[-1].id
    swept = service.housekeeping.run()
    assert swept.events == last - 20
    assert [event.id for event in service.events("lab", 0, 10_000)] == list(range(last - 19, last + 1))
    assert service.events("quiet", 0, 1000) == before
    assert service.housekeeping.run().events == 0
    resize(service, 7)
    assert service.events("lab", last, 10)[0].id == last + 1
    assert service.audit("lab")[0].ok


def test_rows_are_deleted_in_short_transactions(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 7)
    for count in range(1, 61):
        resize(service, count % 2, f"key-{count}")
    writes: list[int] = []
    writing = service._database.writing

    def counted() -> Any:
        writes.append(1)
        return writing()

    monkeypatch.setattr(service._database, "writing", counted)
    swept = service.housekeeping.run()
    assert len(writes) >= swept.events / 7
    assert len(service.events("lab", 0, 10_000)) == 20


def test_keys_that_are_too_old_go_and_young_ones_answer(service: Service, clock: list[int]) -> None:
    resize(service, 3, "old")
    clock[0] += 12 * HOUR_NS
    young = resize(service, 4, "young")
    clock[0] += 13 * HOUR_NS
    assert keys(service) == {"old", "young"}
    assert service.housekeeping.run().keys == 1
    assert keys(service) == {"young"}
    again = resize(service, 4, "young")
    assert again.replayed
    assert again.result == young.data


def test_a_key_that_is_too_old_may_be_used_before_it_is_deleted(service: Service, clock: list[int]) -> None:
    resize(service, 3, "key")
    clock[0] += 25 * HOUR_NS
    assert not resize(service, 4, "key").replayed
    assert resize(service, 4, "key").replayed


def test_keys_are_bounded_in_number_and_the_oldest_go(
    service: Service, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "MAX_KEYS", 3)
    for i in range(8):
        clock[0] += 1
        resize(service, i, f"key-{i}")
    assert service.housekeeping.run().keys == 5
    assert keys(service) == {"key-5", "key-6", "key-7"}


def test_a_host_may_go_while_its_events_are_deleted(service: Service) -> None:
    for count in range(1, 61):
        resize(service, count % 2)
    service.delete("lab", Terms())
    assert service.housekeeping.run().events == 0


def fill(service: Service, rows: int) -> None:
    """Many large rows that nobody wants any longer."""
    for begin in range(0, rows, 100):
        values = [
            {"key": f"k{i}", "fingerprint": "f", "expires_ns": 0, "reply": {"text": f"{i}" * 1000}}
            for i in range(begin, begin + 100)
        ]
        with service._database.writing() as connection:
            connection.execute(insert(t.idempotency_keys), values)


def test_the_room_of_deleted_rows_is_given_back(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "hugepool.db"
    fill(service, 3000)
    service.housekeeping.run()
    with service._database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() <= engine.SPARE_PAGES
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    assert pages * 4096 < 4 << 20  # it had 12 MiB
    service.close()  # what is in the log goes into the file
    assert file.stat().st_size < 4 << 20


def test_the_log_is_bounded(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAL_BYTES", 100_000)
    log = tmp_path / "hugepool.db-wal"
    fill(service, 500)
    assert log.stat().st_size > 100_000
    service.housekeeping.run()
    assert log.stat().st_size == 0
    assert sqlite.WAL_BYTES <= 64 << 20
    assert resize(service, 3).revision == 2


def test_writers_go_on_meanwhile(service: Service) -> None:
    fill(service, 2000)
    began = time.monotonic()
    service.housekeeping.run()
    swept = time.monotonic() - began
    assert swept < 30
    assert resize(service, 3).revision == 2
    assert service.audit("lab")[0].ok
