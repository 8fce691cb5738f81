"""No host and no caller stalls the others: bounded waits, bounded memory, bounded numbers."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.machine.state import Host
from hugepool.service import Busy, ForkOf, Idempotency, QuotaReached, Service, Terms
from hugepool.settings import Settings
from hugepool.store.cache import HostCache
from hugepool.store.health import WorkerHealth
from hugepool.store.hosts import host_bytes

SMALL = HostSpec((NodeSpec(1 << 30),))
PATIENCE_SECONDS = 60.0


@contextmanager
def made(folder: Path, **settings: Any) -> Iterator[Service]:
    service = Service(Settings(database_url=f"sqlite:///{folder / 'hugepool.db'}", **settings))
    service.start()
    yield service
    service.close()


@contextmanager
def in_use(service: Service, name: str) -> Iterator[None]:
    """While somebody reads a host for long."""
    inside, done = threading.Event(), threading.Event()

    def slow(_: Host) -> None:
        inside.set()
        done.wait(PATIENCE_SECONDS)

    reader = threading.Thread(target=service.read, args=(name, slow))
    reader.start()
    assert inside.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        done.set()
        reader.join(PATIENCE_SECONDS)


def test_a_host_that_others_use_for_long_is_busy_and_stays_as_it_is(tmp_path: Path) -> None:
    with made(tmp_path, host_wait_seconds=0.1) as service:
        service.create("lab", SMALL, Terms())
        service.create("other", SMALL, Terms())
        with in_use(service, "lab"):
            for attempt in (
                lambda: service.read("lab", lambda host: None),
                lambda: service.execute("lab", c.SetMaxHugePages(9, 3), Terms()),
                lambda: service.delete("lab", Terms()),
            ):
                with pytest.raises(Busy, match="'lab' is in use"):
                    attempt()
            assert service.execute("other", c.SetMaxHugePages(9, 3), Terms()).revision == 2
        assert service.read("lab", lambda host: host.hstates[9].nr_huge_pages) == (0, 1)


def test_more_hosts_than_are_kept_are_refused_even_as_a_dry_run(tmp_path: Path) -> None:
    with made(tmp_path, hosts=2) as service:
        for name in ("a", "b"):
            service.create(name, SMALL, Terms())
        for terms in (Terms(), Terms(dry_run=True), Terms(idempotency=Idempotency("k", "f"))):
            for source in (SMALL, ForkOf("a")):
                with pytest.raises(QuotaReached) as caught:
                    service.create("c", source, terms)
                assert (caught.value.errno, caught.value.facts) == ("EDQUOT", {"limit": 2})
        assert [row.name for row in service.list(10)[0]] == ["a", "b"]
        service.delete("a", Terms())
        again = Terms(idempotency=Idempotency("k", "f"))  # the refusal was not kept for the key
        assert service.create("c", SMALL, again).revision == 1


# -- memory ------------------------------------------------------------------------------------------------


def test_the_running_total_is_the_sum_whatever_happens(tmp_path: Path) -> None:
    with made(tmp_path) as service:
        for i in range(5):
            service.create(f"h{i}", SMALL, Terms())
        for i in range(5):
            service.execute(f"h{i}", c.SetMaxHugePages(9, 50 * i), Terms())
        service.delete("h2", Terms())
        service.execute("h1", c.SetMaxHugePages(9, 1), Terms(dry_run=True))
        cache = service._cache
        hosts = [service.read(f"h{i}", host_bytes)[0] for i in (0, 1, 3, 4)]
        assert cache.used_bytes == sum(hosts) == sum(cache._bytes.values())


def test_the_cost_of_keeping_a_host_does_not_grow_with_the_hosts_kept(tmp_path: Path) -> None:
    with made(tmp_path) as service:
        service.create("lab", SMALL, Terms())
        (loaded,) = service._cache._hosts.values()
    sizes = []

    class Counted(dict[str, int]):
        def values(self) -> Any:
            sizes.append(len(self))
            return super().values()

    cache = HostCache(1 << 40, 1.0)
    cache._bytes = Counted()
    for i in range(3000):
        loaded.name = f"h{i}"
        cache.put(loaded)
    assert cache.used_bytes == 3000 * loaded.nbytes
    assert not sizes


def test_hosts_in_use_are_not_thrown_out_and_others_wait_for_room(tmp_path: Path) -> None:
    with made(tmp_path) as service:
        service.create("lab", SMALL, Terms())
        one = service.read("lab", host_bytes)[0]
    with made(tmp_path, cache_bytes=int(one * 1.5), host_wait_seconds=0.2) as service:
        service.create("other", SMALL, Terms())
        with in_use(service, "lab"):
            before = service._cache.used_bytes
            with pytest.raises(Busy, match="memory"):
                service.read("other", lambda host: None)
            assert service._cache.used_bytes == before <= 1.5 * one
        assert service.read("other", lambda host: None)[1] == 1
        assert service._cache.used_bytes <= 1.5 * one


def test_who_waits_for_room_gets_it_when_it_is_there(tmp_path: Path) -> None:
    with made(tmp_path, cache_bytes=0) as service:  # one at a time
        for name in ("a", "b"):
            service.create(name, SMALL, Terms())
        answers: list[int] = []
        with in_use(service, "a"):
            waiting = threading.Thread(target=lambda: answers.append(service.read("b", lambda host: 0)[1]))
            waiting.start()
            waiting.join(0.3)
            assert not answers
        waiting.join(PATIENCE_SECONDS)
        assert answers == [1]


# -- streams -----------------------------------------------------------------------------------------------


def test_a_hundred_idle_streams_are_not_woken_by_other_hosts_and_read_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(tmp_path) as service:
        for name in ("quiet", "busy"):
            service.create(name, SMALL, Terms())
        last = service.last_event("quiet")
        reads: list[str] = []
        events = service.events

        def counted(name: str, *args: Any, **more: Any) -> Any:
            reads.append(name)
            return events(name, *args, **more)

        monkeypatch.setattr(service, "events", counted)
        looks: list[str] = []
        last_event = service.last_event

        def looked(name: str) -> int:
            looks.append(name)
            return last_event(name)

        monkeypatch.setattr(service, "last_event", looked)
        found: list[Any] = []
        streams = [
            threading.Thread(
                target=lambda: found.append(service.wait_events("quiet", last, PATIENCE_SECONDS))
            )
            for _ in range(100)
        ]
        for stream in streams:
            stream.start()
        until(lambda: len(service._news._waiting.get("quiet", ())) == 100)
        began, before = time.monotonic(), len(looks)
        for count in range(50):
            service.execute("busy", c.SetMaxHugePages(9, count + 1), Terms())
        polls = 1 + (time.monotonic() - began) / service.settings.events_poll_seconds
        assert not reads
        assert len(looks) - before <= 100 * (polls + 1)  # by the clock, not by the 50 changes
        service.execute("quiet", c.SetMaxHugePages(9, 1), Terms())
        for stream in streams:
            stream.join(PATIENCE_SECONDS)
        assert len(found) == 100
        assert {events[0].id for events in found} == {last + 1}
        assert not service._news._waiting


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- health ------------------------------------------------------------------------------------------------


def test_a_service_whose_database_file_was_replaced_is_not_ready(tmp_path: Path) -> None:
    with made(tmp_path, worker_enabled=False) as service:
        assert service.ready().unfit == []
        service._probed = 0.0
        (tmp_path / "hugepool.db").rename(tmp_path / "moved.db")
        assert service.ready().unfit == ["database", "migrations"]
        assert not (tmp_path / "hugepool.db").exists()
        (tmp_path / "moved.db").rename(tmp_path / "hugepool.db")
        assert service.ready().unfit == []


def test_the_error_of_the_worker_is_not_ok(tmp_path: Path) -> None:
    with made(tmp_path) as service:
        service.work.beat()
        assert service.ready().worker == WorkerHealth(ok=True, enabled=True, failures=[])
        service.work.beat("the database is locked")
        assert service.ready().worker == WorkerHealth(
            ok=False, enabled=True, failures=[], error="the database is locked"
        )
        service.work.beat()
        assert service.ready().worker.ok
