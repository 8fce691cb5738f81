"""What can go wrong, in three kinds: bad input, a refusal of the modelled kernel, a bug of hugepool."""

from dataclasses import asdict, dataclass, field
from typing import Any

from hugepool.mm.machine.reasons import Reason

ERRNO_NUMBER = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EINTR": 4, "EIO": 5, "ENXIO": 6, "ENOMEM": 12, "EACCES": 13, "EBUSY": 16,
    "EEXIST": 17, "EINVAL": 22, "EFBIG": 27, "ENOSPC": 28, "ERANGE": 34, "EOPNOTSUPP": 95,
}  # fmt: skip
ERRNO_TEXT = {
    "EPERM": "Operation not permitted",
    "ENOENT": "No such file or directory",
    "ESRCH": "No such process",
    "EINTR": "Interrupted system call",
    "EIO": "Input/output error",
    "ENXIO": "No such device or address",
    "ENOMEM": "Cannot allocate memory",
    "EACCES": "Permission denied",
    "EBUSY": "Device or resource busy",
    "EEXIST": "File exists",
    "EINVAL": "Invalid argument",
    "EFBIG": "File too large",
    "ENOSPC": "No space left on device",
    "ERANGE": "Numerical result out of range",
    "EOPNOTSUPP": "Operation not supported",
}


Step = dict[str, Any]  # of a scenario


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that would help.

    Attributes:
        text: in words.
        steps: as steps of a scenario, where hugepool can do it.
    """

    text: str
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Why:
    """One or two sentences that say what was asked, what came of it and why; and what would help."""

    summary: str
    remedies: list[Remedy] = field(default_factory=list)


class MMError(Exception):
    """A refusal of the modelled kernel.

    Attributes:
        errno: the error's name, a key of ``ERRNO_NUMBER``.
        reason: why, as a word that programs can branch on, or None.
        facts: what a program can read: ``node``, ``zone``, ``pfn``, ``pages_needed``, ``pages_available`` ...
        result: what was done before the refusal and is kept, as commands answer it; None when nothing changed.  Rules
            of ``mm.kernel`` put what they know there, and the command makes its answer of it.
        why: the refusal in sentences and what would help; set on the way out of the engine.
    """

    def __init__(
        self,
        errno: str,
        detail: str,
        *,
        reason: Reason | None = None,
        result: Any = None,
        **facts: Any,
    ) -> None:
        super().__init__(detail)
        self.errno = errno
        self.detail = detail
        self.reason = reason
        self.facts = facts
        self.result = result
        self.why: Why | None = None

    @property
    def errors(self) -> list[dict[str, str]]:
        """Where the input is wrong, as rows of ``errors``; none for a refusal."""
        return []

    def data(self) -> dict[str, Any]:
        """The refusal as plain data: errno, detail, reason, facts, and why in sentences."""
        facts = {**self.facts, "errors": self.errors} if self.errors else dict(self.facts)
        why = asdict(self.why) if self.why else {"summary": None, "remedies": []}
        return {"errno": self.errno, "detail": self.detail, "reason": self.reason, "facts": facts, **why}


class BadInput(MMError):
    """Malformed or impossible input: EINVAL, nothing touched.

    Attributes:
        where: the field, or file and line; None when it is all of it.
        message: what is wrong; ``detail`` puts the place before it.
    """

    def __init__(self, detail: str, *, where: str | None = None, **facts: Any) -> None:
        super().__init__("EINVAL", f"{where}: {detail}" if where else detail, **facts)
        self.where = where
        self.message = detail

    @property
    def errors(self) -> list[dict[str, str]]:
        """The place and the message as a row of ``errors``."""
        return [{"field": self.where, "message": self.message}] if self.where is not None else []


class TooLarge(MMError):
    """Input above a limit: EFBIG, nothing touched."""

    def __init__(self, detail: str) -> None:
        super().__init__("EFBIG", detail)


class NotFound(MMError):
    """No such size, node, block, section, page, task or fault point."""

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__("ENOENT", detail, **facts)


class NoHugePage(Exception):
    """A huge page or a promise cannot be given.

    Who asked makes of it what the kernel does: SIGBUS for a touch, ENOMEM for mmap, ENOSPC for fallocate.

    Attributes:
        reason: ``cgroup-limit``, ``mount-full``, ``pool-exhausted``; for a page that this process alone cannot have
            ``beyond-end-of-file``, ``taken-by-parent`` or ``poisoned-page``.
        facts: what a program can read.
    """

    def __init__(self, reason: Reason, **facts: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.facts = facts
