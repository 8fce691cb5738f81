"""Two services on one file: no change is lost, none is made twice, and both show the same."""

import random
import tempfile
import threading
from pathlib import Path
from typing import Any

from hugepool.client import Client, Refused
from tests.attack.kills import SIZE, SMALL
from tests.attack.report import Report, attack
from tests.attack.victim import Victim, prepare

THREADS = 2  # of each server
BUSY, OTHER_REVISION = 503, 412
TRIES = 1000


def _add_one(client: Client, report: Report, chance: random.Random) -> None:
    """Read a number and write one more, on condition that nobody else has; until it is done."""
    for _ in range(TRIES):
        pool = client.hugepages("shared", SIZE)
        revision = client.revision("shared")
        more = pool["nr_overcommit_hugepages"] + 1
        try:
            if client.hugepages("shared", SIZE) == pool:
                client.overcommit("shared", SIZE, more, if_match=revision)
                return
        except Refused as refused:
            if refused.status not in (BUSY, OTHER_REVISION):
                report.failures.append(f"refused: {refused}")
                return
            report.count("lost races")
        if chance.random() < 0.1:
            client.audit("shared")
    report.failures.append(f"not done in {TRIES} tries")


def run(changes: int, seed: int = 1) -> Report:
    """Have two services add up to a number together."""
    prepare()
    with attack("two servers") as report, tempfile.TemporaryDirectory(prefix="hugepool-two-") as place:
        first, second = Victim(Path(place)), Victim(Path(place))
        try:
            _add_up(report, (first, second), changes, seed)
        finally:
            first.stop()
            second.stop()
        report.expect("Traceback" not in first.log(), f"the log: {first.log()[-3000:]}")
    return report


def _add_up(report: Report, servers: tuple[Victim, Victim], changes: int, seed: int) -> None:
    for server in servers:
        server.start()
    for server in servers:
        server.await_ready()
    each = changes // (len(servers) * THREADS)
    with servers[0].client() as client:
        client.create_host("shared", SMALL)

    def work(server: Victim, number: int) -> None:
        chance = random.Random(seed + number)
        with server.client() as client:
            for _ in range(each):
                _add_one(client, report, chance)

    threads = [
        threading.Thread(target=work, args=(server, number))
        for number in range(THREADS)
        for server in servers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = each * len(threads)
    report.count("changes", total)
    for server in servers:
        with server.client() as client:
            found = client.hugepages("shared", SIZE)["nr_overcommit_hugepages"]
            report.expect(found == total, f"{found} in place of {total}")
            report.expect(client.revision("shared") == total + 1, "a change was made twice")
            report.expect(client.audit("shared")["ok"], "a law is broken")


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.changes, options.seed)
