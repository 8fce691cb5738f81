"""What can go wrong, in three kinds: bad input, a refusal of the modelled kernel, a bug of hugepool."""

from typing import Any

from hugepool.mm.machine.reasons import Reason

ERRNO_NUMBER = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EINTR": 4, "EIO": 5, "ENXIO": 6, "ENOMEM": 12, "EACCES": 13, "EBUSY": 16,
    "EEXIST": 17, "EINVAL": 22, "ENOSPC": 28, "ERANGE": 34, "EOPNOTSUPP": 95,
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
    "ENOSPC": "No space left on device",
    "ERANGE": "Numerical result out of range",
    "EOPNOTSUPP": "Operation not supported",
}


class MMError(Exception):
    """A refusal of the modelled kernel.

    Attributes:
        errno: the error's name, a key of ``ERRNO_NUMBER``.
        reason: why, as a word that programs can branch on, or None.
        facts: what a program can read: ``node``, ``zone``, ``pfn``, ``pages_needed``, ``pages_available`` ...
        result: what was done before the refusal and is kept, or None when nothing changed.
    """

    def __init__(
        self,
        errno: str,
        detail: str,
        *,
        reason: Reason | None = None,
        result: dict[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(detail)
        self.errno = errno
        self.detail = detail
        self.reason = reason
        self.facts = facts
        self.result = result

    @property
    def errors(self) -> list[dict[str, str]]:
        """Where the input is wrong, as rows of ``errors``; none for a refusal."""
        return []


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
