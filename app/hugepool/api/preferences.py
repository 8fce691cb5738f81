"""What a client prefers (RFC 7240): a job at once, or to wait so long.  ``Preference-Applied`` names what was done."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

ASYNC = "respond-async"
MAX_WAIT_SECONDS = 60
APPLIED = "Preference-Applied"
Prefer = Annotated[
    str | None,
    Header(
        description="`respond-async`: answer with a job at once; `wait=N`: wait up to N seconds first (RFC 7240).",
        examples=[ASYNC, "wait=2"],
    ),
]
Wait = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description=f"`wait=N`: wait up to N seconds, at most {MAX_WAIT_SECONDS}, for the end (RFC 7240).",
        examples=["wait=2"],
    ),
]


@dataclass(frozen=True, slots=True)
class Preferences:
    """Those that are known here; others are ignored, as RFC 7240 wants it."""

    respond_async: bool
    wait_seconds: int | None

    @property
    def at_once(self) -> bool:
        """Whether the client does not wait for the end of long work."""
        return self.respond_async and self.wait_seconds is None

    def headers(self) -> dict[str, str]:
        """Which of them are followed."""
        words = [ASYNC] if self.respond_async else []
        words += [] if self.wait_seconds is None else [f"wait={self.wait_seconds}"]
        return {APPLIED: ", ".join(words)} if words else {}


def preferences(header: str | None) -> Preferences:
    """What a header says.  The first of two that are the same counts; a wait is cut to ``MAX_WAIT_SECONDS``."""
    known: dict[str, str] = {}
    for part in (header or "").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        known.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = known.get("wait", "")
    seconds = (
        min(int(wait), MAX_WAIT_SECONDS) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
    )
    return Preferences(ASYNC in known, seconds)
