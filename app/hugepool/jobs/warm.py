"""Worker processes that wait for the next small piece of work: starting one costs more than most questions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hugepool.jobs.crew import Crew


class WarmCrews:
    """Crews of one process each.  At most ``most`` of them wait; more are made when they are needed, and end then."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: list[Crew] = []
        self._guard = threading.Lock()
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Crew]:
        """A crew for one piece of work.  It waits for the next one if that went well, else it ends."""
        crew = self._take() or Crew(1, None)
        try:
            yield crew
        except BaseException:
            crew.leave()
            crew.close()
            raise
        if not self._keep(crew):
            crew.close()

    def close(self) -> None:
        """End those that wait."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for crew in idle:
            crew.close()

    def _take(self) -> Crew | None:
        while True:
            with self._guard:
                if not self._idle:
                    return None
                crew = self._idle.pop()
            if crew.fit():
                return crew
            crew.close()

    def _keep(self, crew: Crew) -> bool:
        with self._guard:
            if self._closed or len(self._idle) >= self._most:
                return False
            self._idle.append(crew)
            return True
