"""Out of memory: which task is killed where a host may kill one, and what the console says.

Source: mm/oom_kill.c oom_badness(), select_bad_process(), __oom_kill_process() (5.14).
Not modelled: oom_score_adj, memory control groups, the reaper's own time.
"""

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.registry import HANDLERS
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.rmap import from_runs
from hugepool.mm.machine.state import Call, Host, Task
from hugepool.mm.machine.task_outcomes import KilledTask
from hugepool.mm.machine.units import KB_PER_PAGE


def badness(task: Task) -> int:
    """Pages that the end of a task would free; 0 for what is no process.  Huge pages do not count."""
    if task.kind in ("cache", "kernel"):
        return 0
    return sum(count for _, count in task.runs) + task.swapped


def kill_largest(host: Host, call: Call, asker: Task) -> KilledTask | None:
    """Kill the task with the most memory; None where there is none to kill.  Of equal ones the youngest goes."""
    victim = max(host.tasks.values(), key=lambda task: (badness(task), task.pid), default=None)
    if victim is None or not badness(victim):
        return None
    killed = KilledTask(victim.pid, victim.comm, badness(victim))
    anon = int((host.mem.uses_of(from_runs(victim.runs)) != Use.KERNEL).sum())
    tables = sum(count for _, count in victim.runs) - anon
    call.printk(
        f"{asker.comm} invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0"
    )
    call.printk(
        f"Out of memory: Killed process {victim.pid} ({victim.comm}) total-vm:{killed.pages * KB_PER_PAGE}kB, "
        f"anon-rss:{anon * KB_PER_PAGE}kB, file-rss:0kB, shmem-rss:0kB, UID:0 "
        f"pgtables:{tables * KB_PER_PAGE}kB oom_score_adj:0"
    )
    host.count("oom_kill")
    call.emit(Event.TASK_KILLED, pid=killed.pid, comm=killed.comm, pages=killed.pages)
    HANDLERS[c.ExitTask](host, call, c.ExitTask(victim.pid))
    return killed
