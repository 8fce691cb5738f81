"""Routes whose functions block: each runs in a thread, and no host gets all the threads.

Requests about one host are worked on one after another.  More than ``threads_per_host`` of them would only wait for
each other in threads that other hosts need, so they queue here, first come, first served, without a thread.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.responses import Response

from hugepool.api.strict_query import StrictRoute
from hugepool.service import Busy
from hugepool.settings import Settings


class HostGates:
    """A gate for each host that requests are about; there only while somebody is at it."""

    def __init__(self, settings: Settings) -> None:
        self._abreast = settings.threads_per_host
        self._wait_seconds = settings.host_wait_seconds
        self._gates: dict[str, tuple[asyncio.Semaphore, list[int]]] = {}

    @asynccontextmanager
    async def passing(self, name: str) -> AsyncIterator[None]:
        """Within the gate of a host.  Raises Busy when the queue does not move for long."""
        gate, users = self._gates.setdefault(name, (asyncio.Semaphore(self._abreast), [0]))
        users[0] += 1
        try:
            await self._enter(gate, name)
            try:
                yield
            finally:
                gate.release()
        finally:
            users[0] -= 1
            if users[0] == 0:
                del self._gates[name]

    async def _enter(self, gate: asyncio.Semaphore, name: str) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await gate.acquire()
        except TimeoutError:
            raise Busy(f"{name} is in use by requests that take long") from None


async def in_thread(request: Request, host: str | None, work: Callable[[], Any]) -> Any:
    """What ``work`` returns, done in a thread; behind the gate of the host that it is about, or of what makes hosts.

    A stop that does not wait any longer leaves the thread behind: it stores all of its change, or nothing.
    """
    if host is None and request.method != "POST":
        return await run_sync(work, abandon_on_cancel=True)
    gates: HostGates = request.app.state.gates
    async with gates.passing(request.url.path if host is None else f"host {host!r}"):
        return await run_sync(work, abandon_on_cancel=True)


class BlockingRoute(StrictRoute):
    """A strict route whose plain function runs in a thread as above."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        super().__init__(path, endpoint if iscoroutinefunction(endpoint) else _threaded(endpoint), **more)


def _threaded(endpoint: Callable[..., Response]) -> Callable[..., Any]:
    @wraps(endpoint)
    async def threaded(**values: Any) -> Any:
        return await in_thread(values["request"], values.get("host"), partial(endpoint, **values))

    return threaded
