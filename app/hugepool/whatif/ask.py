"""Answering a scenario file here, without a service: variants on all cores."""

from hugepool.jobs import Board, JobState, Limits, Refusal, Task
from hugepool.whatif import NEEDED, variants
from hugepool.whatif.document import ScenarioFile
from hugepool.whatif.run import Answer, Progress, run

LOOK_SECONDS = 0.2
MAX_SECONDS = 7 * 24 * 3600.0  # whoever started it can stop it


class NoAnswer(Exception):
    """A worker process came to an end; the text says why."""


def ask(file: ScenarioFile, progress: Progress) -> Answer | variants.Table:
    """The answer to a scenario that names no stored host, as the service would give it.

    Args:
        progress: called again and again with how much is done, of how much.

    Raises:
        MMError: its host cannot be booted or read.
        NoAnswer: see there.
    """
    if not file.variants:
        return run(file.scenario, {}, progress)
    board = Board(Limits(seconds=MAX_SECONDS), NEEDED)
    try:
        question = variants.Question(dict(file.scenario.given))
        task = Task(variants.work, question, variants.items(file.variants), variants.table)
        job = board.submit("what-if", lambda: task, len(task.items))
        while not job.wait(LOOK_SECONDS):
            progress(*job.progress())
    finally:
        board.close()
    if job.state != JobState.DONE:
        raise NoAnswer(job.error or "the work was cancelled")
    if isinstance(job.result, Refusal):
        raise NoAnswer(job.result.error["detail"])
    answer: variants.Table = job.result
    return answer
