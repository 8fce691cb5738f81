"""Many callers, several processes, sudden death: nothing acknowledged is lost, nothing happens twice."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.state import Host
from hugepool.service import Idempotency, Reply, Service, Terms, WouldWait, reading
from hugepool.settings import Settings

Make = Callable[[], Service]
SMALL = HostSpec((NodeSpec(1 << 30),))

WRITER = """
import sys
from hugepool.mm.commands import commands as c
from hugepool.service import Service, Terms
from hugepool.settings import Settings
service = Service(Settings(database_url=sys.argv[1]))
service.start()
for count in range(1, 100_000):
    reply = service.execute("lab", c.SetMaxHugePages(9, count % 300), Terms())
    print(reply.revision, reply.result.after.nr_hugepages, flush=True)
"""


def start_task(service: Service) -> Reply:
    return service.execute("lab", c.CreateTask("kernel", pages=3), Terms())


def test_200_concurrent_writers_over_two_services_lose_nothing(service: Service, another: Make) -> None:
    services = (service, another())
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda i: start_task(services[i % 2]), range(200)))
    assert sorted(reply.revision for reply in replies) == list(range(2, 202))
    pids = {reply.result.pid for reply in replies if reply.result}
    assert len(pids) == 200
    for each in services:
        tasks, revision = each.read("lab", lambda host: set(host.tasks))
        assert (tasks, revision) == (pids, 201)
    assert service.audit("lab")[0].ok
    ids = [event.id for event in service.events("lab", 0, 10_000)]
    assert ids == list(range(1, len(ids) + 1))


def test_writers_of_different_hosts_do_not_disturb_each_other(service: Service) -> None:
    names = [f"host-{i}" for i in range(4)]
    for name in names:
        service.create(name, SMALL, Terms())
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(service.execute, name, c.SetMaxHugePages(9, n), Terms())
                for n in range(1, 11) for name in names]  # fmt: skip
        revisions = sorted(job.result().revision for job in jobs)
    assert revisions == sorted(list(range(2, 12)) * 4)


def test_one_key_used_by_many_at_once_acts_once(service: Service, another: Make) -> None:
    services, terms = (service, another()), Terms(idempotency=Idempotency("k", "same"))
    command = c.CreateTask("kernel", pages=3)
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: services[i % 2].execute("lab", command, terms), range(16)))
    assert [reply.replayed for reply in replies].count(False) == 1
    assert {str(reply.data) for reply in replies} == {str(replies[0].data)}
    assert service.read("lab", lambda host: len(host.tasks)) == (1, 2)


def test_readers_only_see_whole_changes(service: Service, another: Make) -> None:
    other, stop, seen = another(), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            seen.append(other.read("lab", lambda h: (h.hstates[9].nr_huge_pages, len(h.tasks))))

    reader = threading.Thread(target=read)
    reader.start()
    for count in range(1, 31):
        service.execute("lab", c.SetMaxHugePages(9, count), Terms())
    stop.set()
    reader.join()
    assert all(nr == revision - 1 for (nr, _), revision in seen)


def test_a_killed_process_keeps_every_acknowledged_change(
    service: Service, settings: Settings, another: Make
) -> None:
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, settings.database_url], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(10 + 7 * round_)]
        writer.kill()
        acknowledged += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        revision, count = map(int, [line for line in acknowledged if line.endswith("\n")][-1].split())
        found, now = another().read("lab", lambda host: host.hstates[9].nr_huge_pages)
        assert now in (revision, revision + 1)  # the last one may have been stored but not reported
        assert now > revision or found == count
        assert service.audit("lab")[0].ok


def test_waiting_for_events_ends_with_the_next_change(service: Service, another: Make) -> None:
    other = another()
    last = service.events("lab", 0, 1000)[-1].id
    for writer in (service, other):
        timer = threading.Timer(0.2, start_task, [writer])
        timer.start()
        found = service.wait_events("lab", last, timeout_seconds=30)
        timer.join()
        assert found
        assert found[0].id == last + 1
        last = service.events("lab", 0, 1000)[-1].id
    begin = time.monotonic()
    assert service.wait_events("lab", last, timeout_seconds=0.1) == []
    assert time.monotonic() - begin < 5


def test_the_same_commands_give_the_same_machine_in_another_process(
    service: Service, settings: Settings, tmp_path: Path
) -> None:
    script = (
        "import sys; from hugepool.service import *; from hugepool.settings import Settings;"
        "from hugepool.mm.machine.digest import digest;"
        "from hugepool.mm.commands import commands as c; from hugepool.mm.boot.spec import HostSpec, NodeSpec;"
        "s = Service(Settings(database_url=sys.argv[1])); s.start();"
        "s.create('lab', HostSpec((NodeSpec(2 << 30), NodeSpec(2 << 30)), cmdline='hugetlb_free_vmemmap=on'), Terms());"
        "s.execute('lab', c.SetMaxHugePages(9, 300), Terms());"
        "s.execute('lab', c.CreateTask('anon', pages=9000), Terms());"
        "print(s.read('lab', digest)[0])"
    )
    service.execute("lab", c.SetMaxHugePages(9, 300), Terms())
    service.execute("lab", c.CreateTask("anon", pages=9000), Terms())
    here = service.read("lab", digest)[0]
    for seed in ("1", "2"):
        url = f"sqlite:///{tmp_path / seed}.db"
        run = [sys.executable, "-c", script, url]
        out = subprocess.run(
            run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert out.stdout.strip() == here


def test_an_audit_looks_at_the_running_host_while_nobody_changes_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service.read("lab", lambda host: host)[0]
    refused = []

    def watched(host: Host) -> str:
        if host is running:
            with ThreadPoolExecutor(1) as pool:
                look = pool.submit(lambda: service.read("lab", lambda _: None, wait=False))
            refused.append(type(look.exception()))
        return digest(host)

    monkeypatch.setattr(reading, "digest", watched)
    assert service.audit("lab")[0].ok
    assert refused == [WouldWait]
