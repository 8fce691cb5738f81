"""A damaged database: no answer is better than a wrong one, and the log says why.

Every way of ``tests.attack.damage`` is done to a file of a service that has ended.  The next service refuses to start,
or each of its answers is as before or a failure that names the damage.  ``hugepool check`` finds it.
"""

import shutil
from pathlib import Path

import pytest

from hugepool.settings import Settings
from hugepool.store import check
from hugepool.store.errors import Damaged, StoreFailure
from tests.api.conftest import NR, problem_of, serving
from tests.attack import damage
from tests.attack.damaged import LAB, Answers, failures_of, found_by_check, make_whole, right_answers


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def right(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return right_answers(whole, tmp_path_factory.mktemp("right"))


@pytest.fixture
def file(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copy(whole, tmp_path)
    return tmp_path / "hugepool.db"


@pytest.mark.parametrize(
    ("name", "way"), list(damage.all_ways()), ids=[name for name, _ in damage.all_ways()]
)
def test_damage_is_a_clear_failure_and_never_a_wrong_answer(
    file: Path, right: Answers, name: str, way: damage.Way
) -> None:
    way(file)
    found = found_by_check(file)
    failures = failures_of(file, right, name)
    assert found or not failures, failures
    for table in (damage.ROWS, damage.TABLES, damage.WAL):  # a bit may be one that nobody reads
        assert way not in table.values() or failures


def test_there_are_many_ways() -> None:
    assert len(dict(damage.all_ways())) >= 120


def test_a_log_that_is_no_log_of_the_database_changes_nothing(file: Path, right: Answers) -> None:
    for way in damage.HARMLESS_WAL.values():
        way(file)
        assert failures_of(file, right) == []


def test_an_undamaged_database_is_found_whole_and_answers_as_before(file: Path, right: Answers) -> None:
    assert found_by_check(file) == []
    assert failures_of(file, right) == []


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
        damage.ROWS["free pages of a zone"](file)
        assert problem_of(api.get(LAB))["status"] == 500
        damage.by_sql("DROP TABLE zones")(file)
        assert problem_of(api.get("/v1/hosts/lab/hugepages"))["status"] == 500


def test_damage_is_a_kind_of_store_failure() -> None:
    assert issubclass(Damaged, StoreFailure)
