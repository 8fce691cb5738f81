"""Who waits for news of one host is woken by that host's changes alone."""

import threading


class News:
    """One condition a name, there only while somebody waits."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}

    def expect(self, name: str) -> threading.Event:
        """An event that the next change of a host sets; give it back to ``forget``."""
        event = threading.Event()
        with self._guard:
            self._waiting.setdefault(name, []).append(event)
        return event

    def forget(self, name: str, event: threading.Event) -> None:
        """Wait no more."""
        with self._guard:
            found = self._waiting.get(name, [])
            if event in found:
                found.remove(event)
            if not found:
                self._waiting.pop(name, None)

    def announce(self, name: str) -> None:
        """A host changed."""
        with self._guard:
            for event in self._waiting.pop(name, ()):
                event.set()

    def wake_all(self) -> None:
        """Nobody waits any longer."""
        with self._guard:
            names = list(self._waiting)
        for name in names:
            self.announce(name)
