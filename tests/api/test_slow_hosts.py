"""A host that is in use for long holds up nobody but those who want that host."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hugepool.mm.machine.state import Host
from tests.api.conftest import NR, Api, HostApi, refused, serving

PATIENCE_SECONDS = 60.0


@contextmanager
def in_use(api: Api, name: str) -> Iterator[None]:
    """While a request about a host takes long."""
    inside, done = threading.Event(), threading.Event()

    def slow(_: Host) -> None:
        inside.set()
        done.wait(PATIENCE_SECONDS)

    reader = threading.Thread(target=api.app.state.service.read, args=(name, slow))
    reader.start()
    assert inside.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        done.set()
        reader.join(PATIENCE_SECONDS)


def test_a_hundred_requests_for_a_slow_host_take_no_thread_from_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, host_wait_seconds=PATIENCE_SECONDS) as api:
        slow, other = api.boot(), api.boot()

        async def all_at_once() -> tuple[list[int], float, list[int]]:
            url = f"{slow.path}/{NR}"
            waiting = [asyncio.create_task(api.client.put(url, json={"count": n})) for n in range(100)]
            waiting += [asyncio.create_task(api.client.get(slow.path)) for _ in range(20)]
            await asyncio.sleep(0.2)
            began = time.monotonic()
            quick = [
                await api.client.put(f"{other.path}/{NR}", json={"count": 3}),
                await api.client.get(f"{other.path}/fs/proc/meminfo"),
                await api.client.get("/healthz/ready"),
                await api.client.get("/healthz/live"),
                await api.client.get("/v1/hosts"),
            ]
            took = time.monotonic() - began
            release.set()
            return (
                [answer.status_code for answer in quick],
                took,
                [(await task).status_code for task in waiting],
            )

        release = threading.Event()
        with in_use(api, slow.name):
            done = api.portal.start_task_soon(all_at_once)
            assert release.wait(PATIENCE_SECONDS)
        quick, took, slow_ones = done.result(PATIENCE_SECONDS)
        assert quick == [200] * 5
        assert took < PATIENCE_SECONDS / 4
        assert slow_ones == [200] * 120  # each had its turn
        assert slow.counters()["nr_hugepages"] in range(100)
        assert not api.app.state.gates._gates


def test_who_waits_too_long_is_asked_to_come_again_and_nothing_changed(tmp_path: Path) -> None:
    with serving(tmp_path, host_wait_seconds=0.2, threads_per_host=2) as api:
        host = api.boot()
        with host.nothing_changes(), in_use(api, host.name):

            async def many() -> list[tuple[int, str]]:
                asked = [api.client.put(f"{host.path}/{NR}", json={"count": 3}) for _ in range(10)]
                answers = await asyncio.gather(*asked)
                return [(answer.status_code, answer.headers["retry-after"]) for answer in answers]

            assert api.portal.call(many) == [(503, "1")] * 10
            refused(api.get(host.path), 503, "EAGAIN")
        assert HostApi(api, host.name).put(NR, {"count": 3}).status_code == 200
