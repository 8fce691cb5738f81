"""Jobs end as they should: done, failed, cancelled; and nothing goes on behind one that was cancelled."""

import gc
import os
import subprocess
import sys
import textwrap
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hugepool.jobs import Board, Limits, NoRoom, NoSuchJob, State
from tests.jobs import work

SECONDS = 60.0


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board(Limits(workers=2, at_once=1, unfinished=3, kept=2))
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(folder: Path, nr: int) -> list[int]:
    """The processes that said they began."""
    until(lambda: len(list(folder.glob("*.pid"))) == nr)
    return [int(file.read_text()) for file in folder.glob("*.pid")]


def test_results_come_in_the_order_of_the_items_whatever_finished_first(board: Board) -> None:
    job = board.submit("sum", work.square, 1000, range(20), sum)
    assert job.wait(SECONDS)
    assert (job.state, job.result, job.progress()) == (
        State.DONE,
        sum(1000 + i * i for i in range(20)),
        (20, 20),
    )


def test_the_work_is_done_in_other_processes(board: Board) -> None:
    job = board.submit("pid", work.pid, None, range(4), set)
    assert job.wait(SECONDS)
    assert os.getpid() not in job.result


def test_what_one_item_reports_is_seen_while_it_is_at_work(board: Board, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = board.submit("count", work.count, go, [10], list)
    until(lambda: job.progress() == (3, 10))
    assert job.state == State.RUNNING
    go.touch()
    assert job.wait(SECONDS)
    assert (job.result, job.progress()) == ([10], (10, 10))


def test_a_job_that_is_deleted_leaves_no_process_at_work(board: Board, tmp_path: Path) -> None:
    job = board.submit("endless", work.endless, tmp_path, range(5), list)
    working = pids(tmp_path, 2)
    assert all(map(alive, working))
    assert board.delete(job.id).state == State.CANCELLED
    assert not any(map(alive, working))
    with pytest.raises(NoSuchJob):
        board.get(job.id)


def test_a_job_that_is_deleted_while_it_waits_lets_go_of_what_it_holds(board: Board, tmp_path: Path) -> None:
    class Held:
        """Something large."""

    first = board.submit("endless", work.endless, tmp_path, range(2), list)
    pids(tmp_path, 2)
    held = Held()
    gone = weakref.ref(held)
    waiting = board.submit("square", work.square, held, range(3), sum)
    del held
    board.delete(waiting.id)
    gc.collect()
    assert gone() is None
    board.delete(first.id)


def test_a_job_that_waits_for_its_turn_is_cancelled_at_once(board: Board, tmp_path: Path) -> None:
    board.submit("endless", work.endless, tmp_path, [0], list)
    pids(tmp_path, 1)
    waiting = board.submit("sum", work.square, 0, [1], sum)
    assert waiting.state == State.QUEUED
    assert board.delete(waiting.id, timeout_seconds=0).state == State.CANCELLED


def test_more_jobs_than_may_wait_are_refused_and_not_remembered(board: Board, tmp_path: Path) -> None:
    for _ in range(3):
        board.submit("endless", work.endless, tmp_path, [0], list)
    with pytest.raises(NoRoom):
        board.submit("sum", work.square, 0, [1], sum)
    assert len(board.all()) == 3


def test_a_worker_that_is_killed_fails_the_job_and_not_the_next_one(board: Board) -> None:
    job = board.submit("die", work.die, None, range(3), list)
    assert job.wait(SECONDS)
    assert job.state == State.FAILED
    assert "killed" in str(job.error)
    after = board.submit("sum", work.square, 0, [2], sum)
    assert after.wait(SECONDS)
    assert after.result == 4


@pytest.mark.parametrize("finish", [list, lambda _: 1 // 0], ids=["work", "finish"])
def test_a_bug_fails_the_job_in_words_that_show_no_code(board: Board, finish: Callable[..., object]) -> None:
    job = board.submit("fail", work.fail if finish is list else work.pid, None, ["secret"], finish)
    assert job.wait(SECONDS)
    assert job.state == State.FAILED
    assert "secret" not in str(job.error)


def test_a_job_that_takes_too_long_is_ended_with_its_processes(tmp_path: Path) -> None:
    board = Board(Limits(workers=1, seconds=2))
    job = board.submit("endless", work.endless, tmp_path, [0], list)
    (working,) = pids(tmp_path, 1)
    assert job.wait(SECONDS)
    assert (job.state, job.error) == (State.FAILED, "it took longer than 2 seconds")
    assert not alive(working)
    board.close()


def test_jobs_are_forgotten_by_age_and_by_number_the_oldest_first() -> None:
    now = [0.0]
    board = Board(Limits(workers=1, kept=2, kept_seconds=10), clock=lambda: now[0])
    jobs = [board.submit("sum", work.square, 0, [i], sum) for i in range(3)]
    assert all(job.wait(SECONDS) for job in jobs)
    assert board.all() == jobs[1:]
    now[0] = 11
    assert board.all() == []
    board.close()


def test_a_waiting_reader_is_woken_by_news(board: Board) -> None:
    job = board.submit("sum", work.square, 0, range(3), sum)
    known = 0
    while not job.final:
        assert (known := job.wait_news(known, SECONDS)) > 0
    assert known == job.news or job.wait_news(known, SECONDS) == job.news


def test_workers_end_when_the_process_that_began_them_is_killed(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from hugepool.jobs import Board, Limits
        from tests.jobs import work
        if __name__ == "__main__":
            Board(Limits(workers=2)).submit("endless", work.endless, Path({str(tmp_path)!r}), range(2), list)
            time.sleep(600)
    """
    file = tmp_path / "parent.py"
    file.write_text(textwrap.dedent(script))
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, file], env=os.environ | {"PYTHONPATH": str(root)}, cwd=root)
    try:
        working = pids(tmp_path, 2)
    finally:
        parent.kill()
        parent.wait(SECONDS)
    until(lambda: not any(map(alive, working)))
