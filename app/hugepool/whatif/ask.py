"""Answering a scenario file here, without a service: variants on all cores."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from hugepool.forms.bodies import SpecBody
from hugepool.forms.validation import in_words
from hugepool.jobs import Board, JobState, Limits, Refusal, Task
from hugepool.mm.boot.boot import boot
from hugepool.mm.machine.state import Call
from hugepool.whatif import NEEDED, plans, variants
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


class Unasked(Exception):
    """A plan of a file that makes no sense; the text says why."""


def plan_of_file(file: Path, word: str, given: dict[str, Any]) -> Any:
    """The answer of a plan, as plain data, for a machine that a file describes: a spec, alone or under ``spec``.

    Raises:
        Unasked: no such file or plan, or what is in them is malformed.
        MMError: the machine cannot be booted, or the plan makes no sense on it.
    """
    if word not in plans.PLANS:
        raise Unasked(f"there is no plan {word!r}; there are {', '.join(plans.PLANS)}")
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
        spec = document.get("spec", document) if isinstance(document, dict) else document
        machine = SpecBody.model_validate(spec).spec()
        body = plans.PLANS[word].body.model_validate(given)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Unasked(f"{file}: {error}") from None
    except ValidationError as error:
        mistakes = in_words(error, {}).errors
        raise Unasked("\n".join(f"{each['field']}: {each['message']}" for each in mistakes)) from None
    return to_jsonable_python(plans.ask(plans.Question(word, boot(machine, Call()), body)))
