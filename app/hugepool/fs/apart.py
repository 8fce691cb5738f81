"""Archives read in a process of their own: what a hostile one makes of memory or time ends with that process."""

import io
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hugepool.fs.archive import DEFAULT_LIMITS, Archive, Limits, read_archive
from hugepool.jobs.crew import Crew, WorkerDied
from hugepool.mm.machine.errors import BadInput, TooLarge

SECONDS = 60.0
_LOOK_SECONDS = 1.0  # an answer is seen at once, this is only how often the time is looked at
_MEMORY = 4 << 30  # of addresses, a third of which the interpreter and its libraries may take
_AT_ONCE = threading.BoundedSemaphore(4)


def read_apart(data: bytes, limits: Limits = DEFAULT_LIMITS, seconds: float = SECONDS) -> Archive:
    """As ``read_archive``.

    Raises:
        TooLarge: too much by ``limits``, or for the time and the memory that reading it may take.
        BadInput: no archive of a machine.
    """
    deadline = time.monotonic() + seconds
    with _AT_ONCE, Crew(1, (limits, seconds)) as crew:
        try:
            for step in crew.each(_read, [data], _LOOK_SECONDS):
                if step is not None:
                    return _found(step[2])
                if time.monotonic() > deadline:
                    raise TooLarge(f"reading the archive takes more than {seconds:g} seconds")
        except WorkerDied:
            raise TooLarge("reading the archive takes more memory or time than it may") from None
    raise BadInput("cannot be read", where="archive")


def _found(result: Archive | tuple[str, str, str | None]) -> Archive:
    if isinstance(result, Archive):
        return result
    kind, detail, where = result
    raise TooLarge(detail) if kind == TooLarge.__name__ else BadInput(detail, where=where or "archive")


# -- in the process --------------------------------------------------------------------------------------------


def _read(
    shared: tuple[Limits, float], data: bytes, report: Callable[[int, int], None]
) -> Archive | tuple[str, str, Any]:
    """The archive; a refusal as plain values."""
    del report
    limits, seconds = shared
    with suppress(ValueError, OSError):  # not every system has both; the process can be ended in any case
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        return read_archive(io.BytesIO(data), limits)
    except MemoryError:
        return TooLarge.__name__, "reading the archive takes more memory than it may", None
    except TooLarge as error:
        return TooLarge.__name__, error.detail, None
    except BadInput as error:
        return BadInput.__name__, error.message, error.where
