"""The deferred-free worker: soon, once, and again after a restart or a failure."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from hugepool import worker as worker_module
from hugepool.mm.commands import commands as c
from hugepool.service import ForkOf, Service, StoreFailure, Terms
from hugepool.store.health import FailingHost
from hugepool.worker import DeferredFreeWorker

Make = Callable[[], Service]
DEADLINE_SECONDS = 20.0


def queue_a_page(service: Service, name: str = "lab") -> None:
    """A task's surplus page goes to the deferred-free queue when the task ends."""
    service.execute(name, c.SetOvercommit(9, 5), Terms())
    reply = service.execute(name, c.CreateTask("hugetlb", count=2, touch=2), Terms())
    assert reply.result is not None
    ended = service.execute(name, c.ExitTask(reply.result.pid), Terms())
    assert ended.result is not None
    assert ended.result.queued == 2


def queued(service: Service, name: str = "lab") -> int:
    return service.read(name, lambda host: len(host.deferred))[0]


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


def run(service: Service, body: Callable[[], Any]) -> None:
    """Run ``body`` (which may return an awaitable) while the worker works."""

    async def main() -> None:
        worker = DeferredFreeWorker(service)
        await worker.start()
        try:
            await body()
        finally:
            await worker.stop()

    asyncio.run(main())


def test_queued_pages_are_freed_soon(service: Service) -> None:
    async def body() -> None:
        await until(lambda: service.work.health().ok)
        await asyncio.to_thread(queue_a_page, service)
        await until(lambda: queued(service) == 0)

    run(service, body)
    drained = [e for e in service.events("lab", 0, 1000) if e.type == "DeferredFreesDrained"]
    assert [e.data for e in drained] == [{"freed": 2, "refused": 0}]
    assert service.audit("lab")[0].ok


def test_the_worker_is_woken_and_does_not_wait_for_its_poll(service: Service) -> None:
    slow = service.settings.model_copy(update={"worker_poll_seconds": 3600.0})
    service.settings = slow

    async def body() -> None:
        await until(lambda: service.work.health().ok)
        await asyncio.to_thread(queue_a_page, service)
        await until(lambda: queued(service) == 0)

    run(service, body)


def test_pages_queued_before_a_restart_are_freed_after_it(service: Service, another: Make) -> None:
    queue_a_page(service)
    other = another()
    run(other, lambda: until(lambda: queued(other) == 0))
    assert queued(service) == 0


def test_pages_queued_by_another_process_are_found(service: Service, another: Make) -> None:
    other = another()

    async def body() -> None:
        await until(lambda: service.work.health().ok)
        await asyncio.to_thread(queue_a_page, other)
        await until(lambda: queued(service) == 0)

    run(service, body)


def test_in_mode_manual_nothing_is_drained(service: Service) -> None:
    service.create("other", ForkOf("lab"), Terms())
    service.execute("lab", c.SetDeferredMode("manual"), Terms())
    queue_a_page(service)
    queue_a_page(service, "other")
    run(service, lambda: until(lambda: queued(service, "other") == 0))
    assert queued(service) == 2
    assert service.work.due() == []


def test_two_workers_never_drain_the_same_host(service: Service, another: Make) -> None:
    other = another()
    queue_a_page(service)
    assert service.work.due() == ["lab"]
    assert service.work.claim("lab")
    assert not other.work.claim("lab")
    assert other.work.due() == []
    other.work.release("lab", None)  # not its own: nothing happens
    assert other.work.due() == []
    service.work.release("lab", None)
    assert other.work.claim("lab")


def test_the_claim_of_a_dead_process_runs_out(service: Service, another: Make, clock: Any) -> None:
    queue_a_page(service)
    assert service.work.claim("lab")
    clock.now_ns += int(service.settings.worker_claim_seconds * 1e9)
    assert another().work.claim("lab")


def test_a_failing_host_is_left_alone_for_longer_each_time_and_others_go_on(
    service: Service, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    service.create("well", ForkOf("lab"), Terms())
    for name in ("lab", "well"):
        queue_a_page(service, name)
    execute = service.execute

    def lab_is_broken(name: str, *args: Any) -> Any:
        if name == "lab":
            raise ZeroDivisionError("broken")
        return execute(name, *args)

    monkeypatch.setattr(service, "execute", lab_is_broken)
    monkeypatch.setattr(worker_module.log, "exception", lambda *_: None)
    run(service, lambda: until(lambda: queued(service, "well") == 0 and bool(service.work.failures())))
    assert service.work.failures("lab") == [FailingHost("lab", 1, "ZeroDivisionError: broken")]
    assert service.ready().worker.failures == service.work.failures()
    pauses = []
    for _ in range(12):
        assert service.work.due() == []
        begin = clock.now_ns
        while not service.work.due():
            clock.now_ns += 10**9
        pauses.append((clock.now_ns - begin) // 10**9)
        assert service.work.claim("lab")
        service.work.release("lab", "again")
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    monkeypatch.undo()
    clock.now_ns += 300 * 10**9
    run(service, lambda: until(lambda: queued(service) == 0 and not service.work.failures()))


def test_a_stopped_worker_can_be_stopped_again_and_leaves_no_listener(service: Service) -> None:
    async def main() -> None:
        worker = DeferredFreeWorker(service)
        await worker.stop()
        await worker.start()
        await worker.stop()
        await worker.stop()

    asyncio.run(main())
    queue_a_page(service)
    assert queued(service) == 2


def test_an_unreachable_database_does_not_end_the_worker(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_a_page(service)
    due = service.work.due
    failed: list[str] = []

    def fails_once() -> list[str]:
        if not failed:
            failed.append("once")
            raise StoreFailure("gone")
        return due()

    monkeypatch.setattr(service.work, "due", fails_once)
    run(service, lambda: until(lambda: queued(service) == 0))
    assert failed
