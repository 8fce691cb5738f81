"""Processes, and huge pages that wait for the kernel's worker."""

from dataclasses import dataclass

from hugepool.mm.commands.task import find
from hugepool.mm.machine.state import DeferredMode, Host
from hugepool.mm.machine.task_outcomes import Task
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, size_name


@dataclass(frozen=True, slots=True)
class QueuedFree:
    """A huge page that waits for the worker.

    Attributes:
        pfn: its first page.
        size: as sysfs writes it.
    """

    pfn: int
    size: str


@dataclass(frozen=True, slots=True)
class DeferredFrees:
    """The queue of the worker that restores the vmemmap of huge pages and frees them.

    Attributes:
        mode: who works it off: `auto` the service's worker, `manual` only a drain or a resize.
        queued: the oldest first; worked off from the other end.
    """

    mode: DeferredMode
    queued: list[QueuedFree]


def tasks(machine: Host, after: int, limit: int) -> list[Task]:
    """Up to ``limit`` tasks with a pid above ``after``."""
    pids = sorted(pid for pid in machine.tasks if pid > after)[:limit]
    return [Task.of(machine, machine.tasks[pid]) for pid in pids]


def task(machine: Host, pid: int) -> Task:
    """One task.  Raises ENOENT."""
    return Task.of(machine, find(machine, pid))


def deferred_frees(machine: Host) -> DeferredFrees:
    """The queue of the deferred-free worker."""
    queued = [QueuedFree(each.block * PAGEBLOCK_PAGES, size_name(each.order)) for each in machine.deferred]
    return DeferredFrees(machine.deferred_mode, queued)
