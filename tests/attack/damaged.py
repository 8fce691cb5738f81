"""Damaged database files: the next service refuses to start, or each answer is as before or a failure that says why."""

import logging
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from hugepool.settings import Settings
from hugepool.store import check
from hugepool.store.errors import StoreFailure
from tests.api.conftest import NR, Api, serving
from tests.attack import damage
from tests.attack.report import Report, attack

NODES = [{"memory": "512M", "cpus": 2}, {"memory": "512M", "cpus": 2}]
SPEC = {"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on cma=64M", "nodes": NODES}
LAB = "/v1/hosts/lab"
ASKED = [
    "/v1/hosts",
    "/v1/hosts?view=summary",
    f"{LAB}/history",
    "/v1/events",
    *(f"/v1/hosts/{host}{path}" for host in ("lab", "other") for path in ("", "/hugepages", "/events")),
    *(f"{LAB}/{path}" for path in ("tasks", "memory-blocks", "vmemmap", "contig-ranges", "deferred-frees", "faults")),
    *(f"{LAB}/{path}" for path in ("dmesg", "audit", "fs/proc/meminfo", "fs/proc/buddyinfo", "fs/proc/vmstat")),
]  # fmt: skip
KEPT = {"Idempotency-Key": "once"}
UNFOUND = {
    "another name"
}  # a host that is not found by its name is 404; the list of hosts and the check say why
NAMED = ("damaged", "not what was written", "cannot be read", "are missing", "is missing")
Answers = dict[str, tuple[int, str, str | None]]


def make_whole(folder: Path) -> Path:
    """The database of a service that has ended: two hosts with tasks, ranges, faults, surplus, stored answers."""
    with serving(folder, worker_enabled=False) as api:
        for name in ("lab", "other"):
            assert api.post("/v1/hosts", {"name": name, "spec": SPEC}).status_code == 201
        api.put(f"{LAB}/{NR}", {"count": 24}, headers=KEPT)
        api.ask("PATCH", LAB, json={"labels": {"rack": "7", "row": "b"}})
        api.post(f"{LAB}/tasks", {"kind": "anon", "memory": "40M"})
        api.post(f"{LAB}/tasks", {"kind": "hugetlb", "count": 6, "touch": 3})
        api.post(f"{LAB}/contig-ranges", {"nr_pages": 512, "node": 0})
        api.put(f"{LAB}/faults/vmemmap-restore", {"probability": 100, "times": 2})
        api.put(f"{LAB}/{NR}", {"count": 20})
    return folder / "hugepool.db"


def answers(api: Api) -> Answers:
    """Everything that is asked, without what differs from one start to the next."""
    found: Answers = {}
    for path in ASKED:
        answer = api.get(path)
        found[path] = (answer.status_code, answer.text, answer.headers.get("etag"))
    again = api.put(f"{LAB}/{NR}", {"count": 24}, headers=KEPT)
    found["a stored answer"] = (again.status_code, again.text, again.headers.get("idempotent-replay"))
    return found


def right_answers(whole: Path, folder: Path) -> Answers:
    """What a service on the undamaged file answers."""
    shutil.copy(whole, folder / "hugepool.db")
    with serving(folder, worker_enabled=False) as api:
        found = answers(api)
    assert {status for status, *_ in found.values()} == {200}
    return found


def found_by_check(file: Path) -> list[str]:
    """What ``hugepool check`` says."""
    try:
        database = check.existing(Settings(database_url=f"sqlite:///{file}"))
        try:
            return list(check.findings(database, lambda _: None))
        finally:
            database.close()
    except (check.CannotCheck, StoreFailure) as error:
        return [str(error)]


class _Errors(logging.Handler):
    """Counts what is logged as an error with its cause."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.causes = 0
        self.without: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.causes += 1
        else:
            self.without.append(record.getMessage())


def failures_of(file: Path, right: Answers, name: str = "") -> list[str]:
    """The failures of a service on the file.

    Raises:
        AssertionError: an answer is neither right nor a clear failure, or the log does not have its cause.
    """
    errors, root = _Errors(), logging.getLogger()
    root.addHandler(errors)
    try:
        with serving(file.parent, worker_enabled=False) as api:
            found = answers(api)
    except StoreFailure as failure:
        sentence = str(failure)
        assert sentence.isprintable(), sentence
        return [sentence]
    finally:
        root.removeHandler(errors)
    failures = [
        f"{path}: {answer[1][:200]}"
        for path, answer in found.items()
        if not _is_right(path, answer, right, name)
    ]
    unfound = sum(answer[0] == 404 for answer in found.values())
    assert not errors.without, errors.without
    assert errors.causes >= len(failures) - unfound, "the log does not have the cause of each failure"
    return failures


def _is_right(path: str, answer: tuple[int, str, str | None], right: Answers, name: str) -> bool:
    status, text, _ = answer
    if answer == right[path]:
        return True
    if status != 404 or name not in UNFOUND:
        assert status in (500, 503), f"{path} has a wrong answer: {status} {text[:500]}"
        assert any(word in text for word in NAMED), text
    return False


def run(flips: int, seed: int = 1, *, all_ways: bool = True) -> Report:
    """All ways of damage, and so many files with one to four bits turned over."""
    with attack("damage") as report, tempfile.TemporaryDirectory(prefix="hugepool-damage-") as place:
        folder = Path(place)
        for name in ("whole", "right", "damaged"):
            (folder / name).mkdir()
        whole = make_whole(folder / "whole")
        right = right_answers(whole, folder / "right")
        ways = dict(damage.all_ways()) if all_ways else {}
        for number in range(flips):
            ways[f"bits {seed}.{number}"] = partial(
                damage.flip, seed=seed * 1_000_000 + number, count=1 + number % 4
            )
        for name, way in ways.items():
            _try(report, whole, folder / "damaged" / "hugepool.db", right, name, way)
    return report


def _try(report: Report, whole: Path, file: Path, right: Answers, name: str, way: damage.Way) -> None:
    for old in file.parent.iterdir():
        old.unlink()
    shutil.copy(whole, file)
    way(file)
    report.count("damaged files")
    try:
        found = found_by_check(file)
        failures = failures_of(file, right, name)
    except Exception as error:  # noqa: BLE001 - whatever it is, the attack found it
        report.failures.append(f"{name}: {type(error).__name__}: {error}")
        return
    report.count("found by check", bool(found))
    report.count("failures that say so", bool(failures))
    report.count("as before", not failures)
    report.expect(found or not failures, f"{name}: not found by check: {failures[:1]}")


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.flips, options.seed, all_ways=not options.short)
