"""Everything at once for a long time: memory, descriptors and threads of the service stay what they were."""

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from hugepool.client import Client, Refused, Unreachable
from tests.attack.kills import SIZE, SMALL
from tests.attack.report import Report, attack
from tests.attack.victim import Victim, prepare

HOSTS = 8  # that stay; as many more come and go
SAMPLES = 40
KB_PER_MB = 1024
MORE_MEMORY, MORE_MB = 1.15, 32  # what the end may need more than the beginning: a share, and MiB
REFUSALS = (404, 409, 412, 503, 507)  # a host that somebody deleted, others' writes, a kernel without memory
QUESTION = {
    "host": {"spec": SMALL},
    "steps": [{"resize": {"count": 100}}, {"resize": {"count": 0}}],
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service holds at one moment: memory in MiB, open files, threads."""

    memory_mb: float
    files: int
    threads: int


def _sample(pid: int) -> Sample:
    process = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    kb = int(status["VmRSS"].split()[0])
    return Sample(kb / KB_PER_MB, len(list((process / "fd").iterdir())), int(status["Threads"]))


def _resize(client: Client, chance: random.Random) -> None:
    client.resize(f"stays-{chance.randrange(HOSTS)}", SIZE, chance.randrange(64))


def _come_and_go(client: Client, chance: random.Random) -> None:
    name = f"goes-{chance.randrange(HOSTS)}"
    client.create_host(name, SMALL)
    client.resize(name, SIZE, 16)
    client.delete_host(name)


def _task(client: Client, chance: random.Random) -> None:
    host = f"stays-{chance.randrange(HOSTS)}"
    client.exit_task(host, client.start_task(host, {"kind": "anon", "memory": "8M"})["pid"])


def _look(client: Client, chance: random.Random) -> None:
    host = f"/v1/hosts/stays-{chance.randrange(HOSTS)}"
    for path in ("", "/history", "/events", "/memory-map?bins=64", "/fs/proc/meminfo", "/audit"):
        client.request("GET", host + path)
    for path in ("/v1/hosts?view=summary", "/metrics", "/v1/events"):
        client.request("GET", path)


def _ask(client: Client, _: random.Random) -> None:
    client.what_if(QUESTION)


WORK: tuple[tuple[Callable[[Client, random.Random], None], int], ...] = (
    (_resize, 40),
    (_task, 20),
    (_look, 20),
    (_come_and_go, 15),
    (_ask, 5),
)


def _work(victim: Victim, seed: int, end: float, report: Report) -> None:
    """One caller, until the time is over."""
    chance = random.Random(seed)
    kinds, weights = zip(*WORK, strict=True)
    with victim.client() as client:
        while time.monotonic() < end:
            (kind,) = chance.choices(kinds, weights)
            try:
                kind(client, chance)
                report.count(kind.__name__.strip("_").replace("_", " "))
            except Refused as refused:
                report.expect(refused.status in REFUSALS, f"{kind.__name__}: {refused}")
                report.count("refused")
            except Unreachable:  # a connection that was idle for long may be closed while it is used again
                report.expect(victim.alive, f"{kind.__name__}: the service has ended")
                report.count("closed connections")


@contextmanager
def _callers(victim: Victim, number: int, end: float, report: Report) -> Iterator[None]:
    seeds = range(number)
    threads = [threading.Thread(target=_work, args=(victim, seed, end, report)) for seed in seeds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def _compare(report: Report, samples: list[Sample]) -> None:
    """The second quarter, when all caches are warm, with the last one."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = (mean(s.memory_mb for s in part) for part in (early, late))
    report.count("MiB in the second quarter", round(before))
    report.count("MiB in the last quarter", round(after))
    report.expect(
        after <= before * MORE_MEMORY + MORE_MB, f"memory grew from {before:.0f} to {after:.0f} MiB"
    )
    for what in ("files", "threads"):
        most, now = (max(getattr(s, what) for s in part) for part in (early, late))
        report.expect(now <= most * 2, f"{what} grew from {most} to {now}")


def run(seconds: int, callers: int = 4) -> Report:
    """Load a service for so long."""
    prepare()
    with attack("load") as report, tempfile.TemporaryDirectory(prefix="hugepool-load-") as place:
        victim = Victim(Path(place))
        victim.start()
        try:
            victim.await_ready()
            with victim.client() as client:
                for number in range(HOSTS):
                    client.create_host(f"stays-{number}", SMALL)
            end = time.monotonic() + seconds
            samples = []
            with _callers(victim, callers, end, report):
                while time.monotonic() < end:
                    samples.append(_sample(victim.pid))
                    time.sleep(seconds / SAMPLES)
            _compare(report, samples)
            with victim.client() as client:
                for number in range(HOSTS):
                    report.expect(client.audit(f"stays-{number}")["ok"], f"stays-{number} breaks a law")
        finally:
            victim.stop()
        report.expect("Traceback" not in victim.log(), f"the log: {victim.log()[-3000:]}")
    return report


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.load_seconds)
