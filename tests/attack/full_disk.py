"""A disk that fills up: changes are refused and have not happened, reads go on, and all is well with room again.

The database lies on a small file system in memory, which takes root to mount.
"""

import ctypes
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hugepool.client import Client, Refused
from tests.attack.kills import SIZE, SMALL
from tests.attack.report import Report, attack
from tests.attack.victim import Victim, prepare

DISK_BYTES = 24 << 20
BUSY = 503
HEALTH_SECONDS = 10.0
MNT_DETACH = 0x2
LIBC = ctypes.CDLL(None, use_errno=True)
MOST_CHANGES = 400  # until the disk is full


class NoDisk(Exception):
    """A file system cannot be mounted here."""


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hugepool-disk-") as place:
        size = f"size={DISK_BYTES}".encode()
        if LIBC.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, size) != 0:
            raise NoDisk(f"a file system in memory cannot be mounted: {os.strerror(ctypes.get_errno())}")
        try:
            yield Path(place)
        finally:
            LIBC.umount2(os.fsencode(place), MNT_DETACH)


def _fill(folder: Path, leave_bytes: int) -> Path:
    """A file that takes all of the room but some."""
    filler, disk = folder / "filler", os.statvfs(folder)
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, disk.f_bfree * disk.f_bsize - leave_bytes))
    return filler


def _round(client: Client, folder: Path, report: Report, chance: random.Random) -> None:
    before = client.revision("lab")
    filler = _fill(folder, chance.choice([0, 4096, 65_536, 300_000, 1 << 20]))
    made, last = 0, client.hugepages("lab", SIZE)["nr_hugepages"]
    refused = 0
    for number in range(MOST_CHANGES):
        count = (last + 1 + number % 58) % 60  # never the same again
        try:
            client.resize("lab", SIZE, count)
        except Refused as refusal:
            report.expect(refusal.status == BUSY, f"a full disk is {refusal.status}: {refusal}")
            refused += 1
            if refused == 3:
                break
        else:
            made, last = made + 1, count
    report.count("refused changes", refused)
    report.count("changes made", made)
    report.expect(client.hugepages("lab", SIZE)["nr_hugepages"] == last, "a refused change was made")
    report.expect(client.revision("lab") == before + made, "a revision was lost, or one is too many")
    report.expect(_says_so(client), "a service that cannot store anything says that it is ready")
    filler.unlink()
    client.resize("lab", SIZE, (last + 7) % 60)
    report.expect(client.audit("lab")["ok"], "a law is broken")


def _says_so(client: Client) -> bool:
    """Whether the service says that it is not ready; it may have looked a moment ago, when there was room."""
    deadline = time.monotonic() + HEALTH_SECONDS
    while time.monotonic() < deadline:
        try:
            client.request("GET", "/healthz/ready")
        except Refused as refused:
            return refused.status == BUSY
        time.sleep(0.05)
    return False


def run(rounds: int, seed: int = 1) -> Report:
    """Fill the disk under a service so many times."""
    with attack("full disk") as report:
        try:
            with _small_disk() as folder:
                _attack(folder, report, rounds, seed)
        except NoDisk as error:
            report.skipped = str(error)
    return report


def _attack(folder: Path, report: Report, rounds: int, seed: int) -> None:
    prepare()
    victim, chance = Victim(folder, worker_enabled=False), random.Random(seed)
    victim.start()
    try:
        victim.await_ready()
        with victim.client() as client:
            client.create_host("lab", SMALL)
            for _ in range(rounds):
                _round(client, folder, report, chance)
                report.count("full disks")
            revision = client.revision("lab")
        victim.kill()
        victim.start()
        victim.await_ready()
        with victim.client() as client:
            report.expect(client.revision("lab") == revision, "the next start has another revision")
            report.expect(client.audit("lab")["ok"], "the next start breaks a law")
    finally:
        victim.stop()


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.rounds, options.seed)
