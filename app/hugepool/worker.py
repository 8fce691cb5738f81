"""The deferred-free worker: a second caller of the one road, on the kernel's behalf.

In mode ``auto`` it drains a host's queue of deferred frees soon after something was queued.  The queue is
rows of the database: it survives a restart, and what one process queued any process may drain, one at a time
for each host.
"""

import asyncio
import contextlib
import logging
from functools import partial

from anyio.to_thread import run_sync

from hugepool.mm.commands.commands import RunFreeHpageWork
from hugepool.service import HostNotFound, Service, StoreFailure, Terms

log = logging.getLogger(__name__)
# A stop that does not wait any longer leaves the thread behind: it stores all of its change, or nothing.
_in_thread = partial(run_sync, abandon_on_cancel=True)


class DeferredFreeWorker:
    """One asyncio task; the work itself is done in threads.  Start and stop it in a lifespan."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wake = asyncio.Event()
        self._stopping = False
        self._at = ""  # the host that is drained
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; work that was queued before is done at once."""
        loop = asyncio.get_running_loop()

        def queued(_name: str, has_work: bool) -> None:
            if has_work:
                with contextlib.suppress(RuntimeError):  # the loop has ended already
                    loop.call_soon_threadsafe(self._wake.set)

        self._forget = self._service.on_change(queued)
        self._task = asyncio.create_task(self._run(), name="deferred-free-worker")

    async def stop(self) -> None:
        """Finish the host at hand, if that does not take long; leave the others to the next start."""
        if self._task is None:
            return
        self._stopping = True
        self._forget()
        self._wake.set()
        try:
            await asyncio.wait_for(self._task, self._service.settings.shutdown_seconds)
        except TimeoutError:
            log.warning("the stop cut the draining of the deferred frees of host %s", self._at)
        self._task = None

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                await self._round()
            except StoreFailure as failure:
                log.warning("the deferred-free worker cannot use the database: %s", failure)
                self._service.work.beat(str(failure))
            except Exception as error:  # a bug must not end the worker in silence
                log.exception("a round of the deferred-free worker failed")
                self._service.work.beat(f"{type(error).__name__}: {error}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._service.settings.worker_poll_seconds)

    async def _round(self) -> None:
        """Every host that has work, once."""
        self._service.work.beat()
        for name in await _in_thread(self._service.work.due):
            if self._stopping:
                return
            self._at = name
            await _in_thread(self._drain, name)
            self._service.work.beat()

    def _drain(self, name: str) -> None:
        """Work off one host's queue, unless another process is at it; a failure is kept and waited out."""
        work, failure = self._service.work, None
        if not work.claim(name):
            return
        try:
            self._service.execute(name, RunFreeHpageWork(), Terms())
        except HostNotFound:
            return
        except Exception as error:  # one host's failure, a bug included, must not stop the others
            log.exception("draining the deferred frees of host %s failed", name)
            failure = f"{type(error).__name__}: {error}"
        work.release(name, failure)


class Housekeeper:
    """Deletes old rows now and then; start and stop it in a lifespan."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="housekeeper")

    async def stop(self) -> None:
        """End; what is not done is done after the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._service.settings.maintenance_seconds)
            try:
                await _in_thread(self._service.housekeeping.run)
            except StoreFailure as failure:
                log.warning("old rows could not be deleted: %s", failure)
            except Exception:  # a bug must not end it in silence
                log.exception("deleting old rows failed")
