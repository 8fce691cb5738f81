"""kill -9 at any moment: what was acknowledged is there, what was not is there once or not at all, all laws hold.

A round keeps the service busy in one of several ways, kills it after a random time, and starts it again to look.
"""

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config

from hugepool.client import Client, Json, Refused, Unreachable
from hugepool.settings import Settings
from hugepool.store import migrate
from hugepool.store.engine import Database
from tests.attack.report import Report, attack
from tests.attack.victim import Victim, prepare

SMALL: Json = {
    "kernel": "6.1",
    "cmdline": "hugetlb_free_vmemmap=on",
    "nodes": [{"memory": "512M"}, {"memory": "512M"}],
}
LARGE: Json = {"kernel": "6.12", "cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "160G"}]}
SIZE = "2048kB"
WRITERS = 3
OLD_SCHEMA = "0003"
LONGEST_SECONDS = 0.4  # from the moment that it is busy to the kill


@dataclass
class Ledger:
    """What one writer knows of its host: the last change that was acknowledged, and the one that may have been made."""

    host: str
    revision: int = 1
    after: Json | None = None
    key: str = ""
    count: int | None = None
    acknowledged: int = 0
    made: int = 0
    failures: list[str] = field(default_factory=list)

    def write(self, client: Client, chance: random.Random) -> None:
        """Resize the pool, under its own key; remember what was asked before it is sent."""
        count = chance.choice([n for n in range(60) if self.after is None or n != self.after["nr_hugepages"]])
        self.made += 1
        self.key, self.count = f"{self.host}-{self.made}", count
        self._acknowledge(client.change("PUT", self.path, {"count": count}, idempotency_key=self.key))

    def _acknowledge(self, answer: Json) -> None:
        self.after, self.count = answer["after"], None
        self.revision += 1
        self.acknowledged += 1

    @property
    def path(self) -> str:
        """Where the pool is resized."""
        return f"hosts/{self.host}/hugepages/{SIZE}/nr_hugepages"

    def check(self, client: Client) -> None:
        """After a kill: the last acknowledged change is there, the next one once or not at all."""
        found = client.revision(self.host)
        after = self._counters(client)
        if found == self.revision:
            self._expect(self.after is None or after == self.after, f"{after} in place of {self.after}")
        elif found == self.revision + 1 and self.count is not None:
            self._expect(after["nr_hugepages"] == self.count, f"{after} in place of {self.count} pages")
        else:
            self._expect(False, f"revision {found} in place of {self.revision}")
        if self.count is not None:  # ask again for what was not answered, under its key
            self._acknowledge(
                client.change("PUT", self.path, {"count": self.count}, idempotency_key=self.key)
            )
        self._expect(client.revision(self.host) == self.revision, "a change was made twice")
        self._expect(client.audit(self.host)["ok"], "a law is broken")

    def _counters(self, client: Client) -> Json:
        pool: Json = dict(client.hugepages(self.host, SIZE))
        names = self.after if self.after is not None else ("nr_hugepages",)
        return {name: pool[name] for name in names}

    def _expect(self, true: bool, failure: str) -> None:
        if not true:
            self.failures.append(f"host {self.host}: {failure}")


class Loop:
    """The rounds: one service, its ledgers, and the ways to keep it busy."""

    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self.folder, self.report, self.chance = folder, report, random.Random(seed)
        self.victim = Victim(folder, worker_poll_seconds=0.02, host_wait_seconds=60.0)
        self.ledgers = [Ledger(f"host{number}") for number in range(WRITERS)]
        self.files: dict[str, str] = {}
        self._old: Path | None = None
        self._imported = 0
        self.ways: dict[str, Callable[[], None]] = {
            "writing": self._while_writing,
            "starting": self._while_starting,
            "migrating": self._while_migrating,
            "importing": self._while_importing,
            "working on jobs": self._while_touching,
            "draining": self._while_draining,
        }

    def begin(self) -> None:
        """Make the hosts."""
        self.victim.start()
        self.victim.await_ready()
        with self.victim.client() as client:
            for ledger in self.ledgers:
                client.create_host(ledger.host, SMALL)
            for name, spec in (("queue", SMALL), ("large", LARGE)):
                client.create_host(name, spec)
            client.overcommit("queue", SIZE, 100)
            self.files = {path: client.read_file("host0", path) for path in _IMPORTED}

    def run(self, kills: int) -> None:
        """So many kills, the ways in turn."""
        names = list(self.ways)
        for number in range(kills):
            name = names[number % len(names)]
            self.ways[name]()
            self.report.count(f"kills while {name}")
            self._look()
        self.report.count("acknowledged changes", sum(ledger.acknowledged for ledger in self.ledgers))
        for ledger in self.ledgers:
            self.report.failures += ledger.failures

    def _look(self) -> None:
        """Start again, and see what is there."""
        self.victim.start()
        self.victim.await_ready()
        with self.victim.client() as client:
            for ledger in self.ledgers:
                ledger.check(client)

    def _kill(self) -> None:
        time.sleep(self.chance.random() * LONGEST_SECONDS)
        self.report.expect(self.victim.kill(), f"it had ended by itself: {self.victim.log()[-500:]}")

    def _busy(self, work: Callable[[Client], None]) -> threading.Thread:
        """Have something asked in a thread until the service is gone."""

        def ask() -> None:
            with self.victim.client() as client:
                try:
                    while True:
                        work(client)
                except Unreachable:
                    pass
                except Refused as refused:
                    self.report.failures.append(f"refused: {refused}")

        thread = threading.Thread(target=ask)
        thread.start()
        return thread

    # -- the ways ----------------------------------------------------------------------------------------------

    def _while_writing(self) -> None:
        chances = [random.Random(self.chance.random()) for _ in self.ledgers]
        threads = [
            self._busy(lambda client, ledger=ledger, chance=chance: ledger.write(client, chance))  # type: ignore[misc]
            for ledger, chance in zip(self.ledgers, chances, strict=True)
        ]
        self._kill()
        for thread in threads:
            thread.join()

    def _while_starting(self) -> None:
        self.victim.kill()
        self.victim.start()
        self._kill()

    def _while_migrating(self) -> None:
        """Another service, on a file of an earlier version; what comes after the kill migrates it whole."""
        self._old = self._old or self._make_old()
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            shutil.copy(self._old, Path(place) / "hugepool.db")
            victim = Victim(Path(place), worker_enabled=False)
            victim.start()
            time.sleep(self.chance.random() * LONGEST_SECONDS / 2)
            victim.kill()
            victim.start()
            victim.await_ready()
            with victim.client() as client:
                self.report.expect(client.audit("host0")["ok"], "a migrated host breaks a law")
                parts = client.request("GET", "/healthz/ready").json()["parts"]
                self.report.expect(parts["migrations"]["current"] == migrate.head(), "half migrated")
            victim.kill()
        self.victim.kill()

    def _make_old(self) -> Path:
        """A copy of the database, taken down to an earlier schema."""
        self.victim.kill()
        old = self.folder / "old.db"
        for name in ("hugepool.db", "hugepool.db-wal"):
            if (self.folder / name).exists():
                shutil.copy(self.folder / name, self.folder / name.replace("hugepool", "old"))
        database = Database(Settings(database_url=f"sqlite:///{old}"))
        with database.migrating() as connection:
            settings: Config = migrate.config()
            settings.attributes["connection"] = connection
            command.downgrade(settings, OLD_SCHEMA)
        database.close()
        self._look()
        return old

    def _while_importing(self) -> None:
        made: list[str] = []

        def work(client: Client) -> None:
            self._imported += 1
            name = f"imported{self._imported}"
            client.import_files(name, self.files, "6.1")
            made.append(name)

        thread = self._busy(work)
        self._kill()
        thread.join()
        self.victim.start()
        self.victim.await_ready()
        with self.victim.client() as client:
            found = [host["name"] for host in client.hosts() if host["name"].startswith("imported")]
            self.report.expect(set(made) <= set(found), f"of {made} there are only {found}")
            self.report.count("imports acknowledged", len(made))
            for name in found:
                self.report.expect(client.audit(name)["ok"], f"{name} breaks a law")
                client.delete_host(name)
        self.victim.kill()

    def _while_touching(self) -> None:
        """A touch of 70,000 huge pages is a job of many pieces; each is kept or not."""

        def work(client: Client) -> None:
            client.resize("large", SIZE, 75_000)
            task = client.start_task("large", {"kind": "hugetlb", "count": 70_000})
            client.change("POST", f"hosts/large/tasks/{task['pid']}/touch", {"count": 70_000})

        thread = self._busy(work)
        time.sleep(self.chance.random())
        self._kill()
        thread.join()
        self.victim.start()
        self.victim.await_ready()
        with self.victim.client() as client:
            self.report.expect(client.audit("large")["ok"], "the large host breaks a law")
            for task in list(client.tasks("large")):
                client.exit_task("large", task["pid"])
        self.victim.kill()

    def _while_draining(self) -> None:
        """Surplus pages that a task gives back wait for the worker, which frees them after the next start at last."""

        def work(client: Client) -> None:
            task = client.start_task("queue", {"kind": "hugetlb", "count": 20, "touch": 20})
            client.exit_task("queue", task["pid"])

        thread = self._busy(work)
        self._kill()
        thread.join()
        self.victim.start()
        self.victim.await_ready()
        with self.victim.client() as client:
            for task in list(client.tasks("queue")):
                client.exit_task("queue", task["pid"])
            deadline = time.monotonic() + 60
            while client.get("hosts/queue/deferred-frees")["queued"] and time.monotonic() < deadline:
                time.sleep(0.02)
            self.report.expect(
                not client.get("hosts/queue/deferred-frees")["queued"], "the queue is not worked off"
            )
            self.report.expect(client.hugepages("queue", SIZE)["nr_hugepages"] == 0, "surplus pages stay")
            self.report.expect(client.audit("queue")["ok"], "the host with the queue breaks a law")
        self.victim.kill()


_IMPORTED = ("/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/vmstat", "/proc/cmdline")


def run(kills: int, seed: int = 1) -> Report:
    """Kill a service so many times, in all ways."""
    prepare()
    with attack("kill -9") as report, tempfile.TemporaryDirectory(prefix="hugepool-kills-") as place:
        loop = Loop(Path(place), report, seed)
        try:
            loop.begin()
            loop.run(kills)
        finally:
            loop.victim.stop()
        report.expect("Traceback" not in loop.victim.log(), f"the log: {loop.victim.log()[-3000:]}")
    return report


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.kills, options.seed)
