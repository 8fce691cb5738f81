"""Jobs end as they should: done, failed, cancelled; and nothing goes on behind one that was cancelled."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hugepool.jobs import Board, Job, JobState, Limits, NoRoom, NoSuchJob, Task, crew
from tests.jobs import work

SECONDS = 60.0


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board(Limits(workers=2, at_once=1, unfinished=3, kept=2))
    yield made
    made.close()


def submit(board: Board, kind: str, what: Any, shared: Any, items: Any, finish: Any, **more: Any) -> Job:
    """Have a task done."""
    task = Task(what, shared, items, finish)
    return board.submit(kind, lambda: task, len(items), **more)


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
    job = submit(board, "sum", work.square, 1000, range(20), sum)
    assert job.wait(SECONDS)
    assert (job.state, job.result, job.progress()) == (
        JobState.DONE,
        sum(1000 + i * i for i in range(20)),
        (20, 20),
    )


def test_the_work_is_done_in_other_processes(board: Board) -> None:
    job = submit(board, "pid", work.pid, None, range(4), set)
    assert job.wait(SECONDS)
    assert os.getpid() not in job.result


def test_what_one_item_reports_is_seen_while_it_is_at_work(board: Board, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = submit(board, "count", work.count, go, [10], list)
    until(lambda: job.progress() == (3, 10))
    assert job.state == JobState.RUNNING
    go.touch()
    assert job.wait(SECONDS)
    assert (job.result, job.progress()) == ([10], (10, 10))


def test_a_job_that_is_deleted_leaves_no_process_at_work(board: Board, tmp_path: Path) -> None:
    job = submit(board, "endless", work.endless, tmp_path, range(5), list)
    working = pids(tmp_path, 2)
    assert all(map(alive, working))
    assert board.delete(job.id).state == JobState.CANCELLED
    assert not any(map(alive, working))
    with pytest.raises(NoSuchJob):
        board.get(job.id)


def test_a_job_that_is_deleted_while_it_waits_lets_go_of_what_it_holds(board: Board, tmp_path: Path) -> None:
    class Held:
        """Something large."""

    first = submit(board, "endless", work.endless, tmp_path, range(2), list)
    pids(tmp_path, 2)
    held = Held()
    gone = weakref.ref(held)
    waiting = submit(board, "square", work.square, held, range(3), sum)
    del held
    board.delete(waiting.id)
    gc.collect()
    assert gone() is None
    board.delete(first.id)


def test_a_job_that_waits_for_its_turn_is_cancelled_at_once(board: Board, tmp_path: Path) -> None:
    submit(board, "endless", work.endless, tmp_path, [0], list)
    pids(tmp_path, 1)
    waiting = submit(board, "sum", work.square, 0, [1], sum)
    assert waiting.state == JobState.QUEUED
    assert board.delete(waiting.id, timeout_seconds=0).state == JobState.CANCELLED


def test_more_jobs_than_may_wait_are_refused_and_not_remembered(board: Board, tmp_path: Path) -> None:
    for _ in range(3):
        submit(board, "endless", work.endless, tmp_path, [0], list)
    with pytest.raises(NoRoom):
        submit(board, "sum", work.square, 0, [1], sum)
    assert len(board.all()) == 3


def test_a_worker_that_is_killed_fails_the_job_and_not_the_next_one(board: Board) -> None:
    job = submit(board, "die", work.die, None, range(3), list)
    assert job.wait(SECONDS)
    assert job.state == JobState.FAILED
    assert "killed" in str(job.error)
    after = submit(board, "sum", work.square, 0, [2], sum)
    assert after.wait(SECONDS)
    assert after.result == 4


@pytest.mark.parametrize("finish", [list, lambda _: 1 // 0], ids=["work", "finish"])
def test_a_bug_fails_the_job_in_words_that_show_no_code(board: Board, finish: Callable[..., object]) -> None:
    job = submit(board, "fail", work.fail if finish is list else work.pid, None, ["secret"], finish)
    assert job.wait(SECONDS)
    assert job.state == JobState.FAILED
    assert "secret" not in str(job.error)


def test_a_job_that_takes_too_long_is_ended_with_its_processes(tmp_path: Path) -> None:
    board = Board(Limits(workers=1, seconds=2))
    job = submit(board, "endless", work.endless, tmp_path, [0], list)
    (working,) = pids(tmp_path, 1)
    assert job.wait(SECONDS)
    assert (job.state, job.error) == (JobState.FAILED, "it took longer than 2 seconds")
    assert not alive(working)
    board.close()


def test_jobs_are_forgotten_by_age_and_by_number_the_oldest_first() -> None:
    now = [0.0]
    board = Board(Limits(workers=1, kept=2, kept_seconds=10), clock=lambda: now[0])
    jobs = [submit(board, "sum", work.square, 0, [i], sum) for i in range(3)]
    assert all(job.wait(SECONDS) for job in jobs)
    assert board.all() == jobs[1:]
    now[0] = 11
    assert board.all() == []
    board.close()


def test_a_waiting_reader_is_woken_by_news(board: Board) -> None:
    job = submit(board, "sum", work.square, 0, range(3), sum)
    known = 0
    while not job.final:
        assert (known := job.wait_news(known, SECONDS)) > 0
    assert known == job.news or job.wait_news(known, SECONDS) == job.news


def test_workers_end_when_the_process_that_began_them_is_killed(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from hugepool.jobs import Board, Limits, Task
        from tests.jobs import work
        if __name__ == "__main__":
            task = Task(work.endless, Path({str(tmp_path)!r}), range(2), list)
            Board(Limits(workers=2)).submit("endless", lambda: task)
            time.sleep(600)
    """
    file = tmp_path / "parent.py"
    file.write_text(textwrap.dedent(script))
    root = Path(__file__).parents[2]
    path = os.pathsep.join((str(root / "app"), str(root)))
    parent = subprocess.Popen([sys.executable, file], env=os.environ | {"PYTHONPATH": path}, cwd=root)
    try:
        working = pids(tmp_path, 2)
    finally:
        parent.kill()
        parent.wait(SECONDS)
    until(lambda: not any(map(alive, working)))


# -- turns -------------------------------------------------------------------------------------------------


def test_owners_take_turns_and_each_ones_jobs_keep_their_order(tmp_path: Path) -> None:
    board = Board(Limits(workers=1, at_once=1))
    first = submit(board, "endless", work.endless, tmp_path, [0], list, owner="greedy")
    pids(tmp_path, 1)
    done: list[str] = []
    jobs = []
    for owner, count in (("greedy", 4), ("modest", 2), ("late", 1)):
        for i in range(count):
            job = submit(board, "sum", work.square, 0, [i], sum, owner=owner)
            job.when_final(partial(done.append, f"{owner} {i}"))
            jobs.append(job)
    board.delete(first.id)
    assert all(job.wait(SECONDS) for job in jobs)
    assert done == ["greedy 0", "modest 0", "late 0", "greedy 1", "modest 1", "greedy 2", "greedy 3"]
    board.close()


def test_one_owner_has_a_limit_of_its_own_and_nobody_has_none(tmp_path: Path) -> None:
    board = Board(Limits(workers=1, at_once=1, each=2))
    for owner in ("a", "b"):
        for _ in range(2):
            submit(board, "endless", work.endless, tmp_path, [0], list, owner=owner)
        with pytest.raises(NoRoom, match=f"2 jobs of '{owner}'"):
            submit(board, "sum", work.square, 0, [1], sum, owner=owner)
    for _ in range(5):
        submit(board, "sum", work.square, 0, [1], sum)
    board.close()


def test_what_waits_is_bounded_in_memory_and_one_that_is_too_large_gets_in_alone(tmp_path: Path) -> None:
    board = Board(Limits(workers=1, at_once=1, held_bytes=100))
    first = submit(board, "endless", work.endless, tmp_path, [0], list, nbytes=500)
    with pytest.raises(NoRoom, match="memory"):
        submit(board, "sum", work.square, 0, [1], sum, nbytes=1)
    board.delete(first.id)
    assert submit(board, "sum", work.square, 0, [1], sum, nbytes=60).wait(SECONDS)
    board.close()


def test_what_a_task_needs_is_made_when_its_turn_comes(board: Board, tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> Task:
        made.append(1)
        return Task(work.square, 1, [1, 2], sum)

    first = submit(board, "endless", work.endless, tmp_path, [0], list)
    pids(tmp_path, 1)
    job = board.submit("sum", make, 2)
    assert (made, job.progress()) == ([], (0, 2))
    board.delete(first.id)
    assert job.wait(SECONDS)
    assert (made, job.result, job.progress()) == ([1], 1 + 1 + 1 + 4, (2, 2))


def test_a_result_that_decides_ends_the_others(board: Board, tmp_path: Path) -> None:
    task = Task(work.one_decides, tmp_path, range(5), list, lambda result: result == "decided")
    job = board.submit("decide", lambda: task)
    assert job.wait(SECONDS)
    assert job.result == ["decided"]
    assert not any(map(alive, (int(file.read_text()) for file in tmp_path.glob("*.pid"))))


def test_work_of_this_process_reports_and_ends_when_it_is_not_wanted(board: Board) -> None:
    going, go = threading.Event(), threading.Event()

    def act(report: Any) -> str:
        report(3, 10)
        going.set()
        go.wait(SECONDS)
        report(4, 10)
        return "done"

    job = board.submit_here("here", act)
    assert going.wait(SECONDS)
    assert (job.state, job.progress()) == (JobState.RUNNING, (3, 10))
    job.cancel()
    go.set()
    assert job.wait(SECONDS)
    assert (job.state, job.result) == (JobState.CANCELLED, None)
    assert board.submit_here("here", lambda report: "fine").wait(SECONDS)


def worker(board: Board) -> int:
    """The process that does a task of one item."""
    job = submit(board, "pid", work.pid, None, [1], list)
    assert job.wait(SECONDS)
    (found,) = job.result
    return int(found)


def test_a_task_of_one_item_is_done_by_a_process_that_waits_for_the_next(board: Board) -> None:
    assert worker(board) == worker(board) != os.getpid()


def test_a_waiting_process_that_was_killed_is_replaced(board: Board) -> None:
    first = worker(board)
    os.kill(first, signal.SIGKILL)
    assert worker(board) != first


def test_a_waiting_process_that_had_much_memory_is_not_used_again(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = worker(board)
    monkeypatch.setattr(crew, "MAX_PEAK_KIB", 1)
    assert worker(board) != first


def test_waiting_processes_end_with_the_board(board: Board) -> None:
    first = worker(board)
    board.close()
    until(lambda: not alive(first))
