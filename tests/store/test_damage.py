"""A damaged database: no answer is better than a wrong one, and the log says why.

Every way of ``tests.attack.damage`` is done to a file of a service that has ended.  The next service refuses to start,
or each of its answers is as before or a failure that names the damage.  ``hugepool check`` finds it.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from hugepool.settings import Settings
from hugepool.store import check
from hugepool.store.errors import Damaged, StoreFailure
from tests.api.conftest import NR, Api, problem_of, serving
from tests.attack import damage

NODES = [{"memory": "512M", "cpus": 2}, {"memory": "512M", "cpus": 2}]
SPEC = {"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on cma=64M", "nodes": NODES}
LAB = "/v1/hosts/lab"
ASKED = [
    "/v1/hosts",
    "/v1/hosts?view=summary",
    f"{LAB}/history",
    *(f"/v1/hosts/{host}{path}" for host in ("lab", "other") for path in ("", "/hugepages", "/events")),
    *(f"{LAB}/{path}" for path in ("tasks", "memory-blocks", "vmemmap", "contig-ranges", "deferred-frees", "faults")),
    *(f"{LAB}/{path}" for path in ("dmesg", "audit", "fs/proc/meminfo", "fs/proc/buddyinfo", "fs/proc/vmstat")),
]  # fmt: skip
KEPT = {"Idempotency-Key": "once"}
UNFOUND = {
    "another name"
}  # a host that is not found by its name is 404; the list of hosts and the check say why
NAMED = ("damaged", "not what was written", "cannot be read", "are missing")


def answers(api: Api) -> dict[str, Any]:
    """Everything that is asked, without what differs from one start to the next."""
    found: dict[str, Any] = {}
    for path in ASKED:
        answer = api.get(path)
        found[path] = (answer.status_code, answer.text, answer.headers.get("etag"))
    again = api.put(f"{LAB}/{NR}", {"count": 24}, headers=KEPT)
    found["a stored answer"] = (again.status_code, again.text, again.headers.get("idempotent-replay"))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a service that has ended: two hosts with tasks, ranges, faults, surplus, stored answers."""
    folder = tmp_path_factory.mktemp("whole")
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
    return folder


@pytest.fixture(scope="module")
def right(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a service on the undamaged file answers."""
    folder = tmp_path_factory.mktemp("right")
    shutil.copy(whole / "hugepool.db", folder)
    with serving(folder, worker_enabled=False) as api:
        found = answers(api)
    assert {status for status, *_ in found.values()} == {200}
    return found


@pytest.fixture
def file(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copy(whole / "hugepool.db", tmp_path)
    return tmp_path / "hugepool.db"


def found_by_check(file: Path) -> list[str]:
    try:
        database = check.existing(Settings(database_url=f"sqlite:///{file}"))
        try:
            return list(check.findings(database, lambda _: None))
        finally:
            database.close()
    except (check.CannotCheck, StoreFailure) as error:
        return [str(error)]


def refused_or_right(
    file: Path, right: dict[str, Any], caplog: pytest.LogCaptureFixture, name: str = ""
) -> list[str]:
    """The failures of a service on the file; anything but a failure or the right answer is an error."""
    caplog.clear()
    try:
        with serving(file.parent, worker_enabled=False) as api:
            found = answers(api)
    except StoreFailure as failure:
        sentence = str(failure)
        assert sentence.isprintable(), sentence
        return [sentence]
    failures = []
    for path, answer in found.items():
        if answer == right[path]:
            continue
        status, text, _ = answer
        if status == 404 and name in UNFOUND:
            failures.append(path)
            continue
        assert status in (500, 503), f"{path} has a wrong answer: {status} {text[:500]}"
        assert (
            "damaged" in text
            or "not what was written" in text
            or "cannot be read" in text
            or "missing" in text
        ), text
        failures.append(f"{path}: {status} {text[:200]}")
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) >= len(failures)
    assert all(record.exc_info for record in logged)
    return failures


@pytest.mark.parametrize(
    ("name", "way"), list(damage.all_ways()), ids=[name for name, _ in damage.all_ways()]
)
def test_damage_is_a_clear_failure_and_never_a_wrong_answer(
    file: Path, right: dict[str, Any], caplog: pytest.LogCaptureFixture, name: str, way: damage.Way
) -> None:
    way(file)
    found = found_by_check(file)
    failures = refused_or_right(file, right, caplog, name)
    assert found or not failures, failures
    for table in (damage.ROWS, damage.TABLES, damage.WAL):  # a bit may be one that nobody reads
        assert way not in table.values() or failures


def test_most_ways_damage_something() -> None:
    assert len(dict(damage.all_ways())) >= 60


def test_a_log_that_is_no_log_of_the_database_changes_nothing(
    file: Path, right: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for way in damage.HARMLESS_WAL.values():
        way(file)
        assert refused_or_right(file, right, caplog) == []


def test_an_undamaged_database_is_found_whole_and_answers_as_before(
    file: Path, right: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert found_by_check(file) == []
    assert refused_or_right(file, right, caplog) == []


def test_a_damaged_host_can_be_deleted_and_others_answer(file: Path) -> None:
    damage.ROWS["a pool larger"](file)
    with serving(file.parent, worker_enabled=False) as api:
        body = problem_of(api.get(LAB))
        assert (body["status"], body["errno"]) == (500, "EIO")
        assert "the rows of host 'lab' are not what was written. Nothing was changed" in body["detail"]
        assert api.put(f"{LAB}/{NR}", {"count": 1}).status_code == 500
        assert api.get("/v1/hosts/other").status_code == 200
        assert api.delete(LAB).status_code in (200, 204)
        assert api.get(LAB).status_code == 404
    assert found_by_check(file) == []


def test_rows_that_belong_to_no_host_are_found(file: Path) -> None:
    damage.by_sql("DELETE FROM hosts WHERE name = 'other'")(file)
    found = found_by_check(file)
    assert any("rows of sections belong to nothing" in finding for finding in found)


def test_what_was_sealed_before_a_migration_is_taken_as_it_is(file: Path) -> None:
    damage.by_sql("UPDATE hosts SET state_seal = NULL, row_seal = NULL")(file)
    with serving(file.parent, worker_enabled=False) as api:
        assert api.get(LAB).status_code == 200
        assert api.put(f"{LAB}/{NR}", {"count": 9}).status_code == 200
    assert found_by_check(file) == []
    damage.ROWS["a pool larger"](file)  # the change has sealed it
    assert any("not what was written" in finding for finding in found_by_check(file))


def test_a_check_of_nothing_makes_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    with pytest.raises(check.CannotCheck, match="there is no database"):
        check.existing(Settings(database_url=f"sqlite:///{missing}"))
    assert not missing.exists()


def test_damage_while_the_service_runs_is_a_failure_as_well(file: Path) -> None:
    with serving(file.parent, worker_enabled=False, cache_bytes=0) as api:
        assert api.get(LAB).status_code == 200
        assert api.get("/v1/hosts/other").status_code == 200  # lab is not in memory any more
        damage.by_sql(
            "UPDATE zones SET nr_free = nr_free + 1 WHERE host_id = (SELECT id FROM hosts WHERE name = 'lab')"
        )(file)
        assert problem_of(api.get(LAB))["status"] == 500
        damage.by_sql("DROP TABLE zones")(file)
        assert problem_of(api.get("/v1/hosts/lab/hugepages"))["status"] == 500


def test_damage_is_a_kind_of_store_failure() -> None:
    assert issubclass(Damaged, StoreFailure)
