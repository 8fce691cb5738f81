"""Who may do what: tokens, their roles, and the file that lists them.

The file has one line for each token: a name, a role, the SHA-256 of the token, and, for the role ``write``, the hosts
that it may change.  The token itself is nowhere: it is as random as a key, so its plain hash gives nothing away.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # how long a change of the file may go unnoticed
MAX_FILE_BYTES = 1 << 20
RANDOM_BYTES = 32
PREFIX = "hugepool_"  # so that scanners for leaked secrets know a token when they see one
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
HOSTS = re.compile(r"[a-z0-9*?\[\]!-]{1,200}")
ALL_HOSTS = "*"


class Role(StrEnum):
    """What a token is for; each may do what those before it may."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        name: of the token; None where there are no tokens, or the service itself is at work.
        hosts: the hosts that the role ``write`` may change, as a shell pattern.
    """

    name: str | None
    role: Role
    hosts: str = ALL_HOSTS

    def may_change(self, host: str) -> bool:
        """Whether a host of this name may be made, changed or deleted."""
        return self.role == Role.ADMIN or (self.role == Role.WRITE and fnmatchcase(host, self.hosts))


ANYBODY = Caller(None, Role.ADMIN)


class WrongTokensFile(Exception):
    """The file cannot be used; one sentence with the line and what is wrong there."""


@dataclass(frozen=True, slots=True)
class _Listed:
    digest: str
    caller: Caller


def new_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(token: str) -> str:
    """What the file has of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def line_of(caller: Caller, token: str) -> str:
    """The line of the file for a token.

    Raises:
        ValueError: there can be no such line; says why.
    """
    hosts = [] if caller.hosts == ALL_HOSTS else [caller.hosts]
    words = [caller.name or "", caller.role, digest_of(token), *hosts]
    _parse(words)
    return " ".join(words)


class Tokens:
    """The tokens of a file, read again when the file has changed."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.  Raises WrongTokensFile."""
        self._path, self._clock = path, clock
        self._looked_at = clock()
        self._seen = _signature(path)
        self._listed = _read(path)

    def find(self, token: str) -> Caller | None:
        """Whose token it is, or None.  How long this takes says nothing about the token."""
        self._look()
        digest, found = digest_of(token), None
        for listed in self._listed:
            if hmac.compare_digest(listed.digest, digest):
                found = listed.caller
        return found

    def reload(self) -> None:
        """Read the file now.  One that cannot be used is reported in the log, and the tokens stay as they are."""
        self._seen = _signature(self._path)
        try:
            self._listed = _read(self._path)
        except WrongTokensFile as wrong:
            log.error("%s; the tokens that it had before stay valid", wrong)
        else:
            log.info("%s: %d tokens", self._path, len(self._listed))

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        if _signature(self._path) != self._seen:
            self.reload()


def _signature(path: Path) -> tuple[int, ...] | None:
    """What differs after a change of a file, or None for no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> tuple[_Listed, ...]:
    """The tokens of a file.

    Raises:
        WrongTokensFile: it cannot be read, others than its owner can write it, or a line is wrong.
    """
    try:
        listed = tuple(_lines(_text(path)))
    except OSError as error:
        raise WrongTokensFile(f"the tokens file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WrongTokensFile(f"the tokens file {path} is wrong: {error}") from None
    return listed


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError(f"others than its owner can write it (mode {stat.S_IMODE(mode):04o})")
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    if not content.isascii():
        raise ValueError("it is not plain ASCII text")
    return content.decode()


def _lines(text: str) -> Iterator[_Listed]:
    names: set[str | None] = set()
    digests: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            listed = _parse(line.split())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if listed.caller.name in names or listed.digest in digests:
            raise ValueError(f"line {number}: the name {listed.caller.name} or its token is there already")
        names.add(listed.caller.name)
        digests.add(listed.digest)
        yield listed
    if not names:
        raise ValueError("it names no token; make one with: hugepool token new NAME")


def _parse(words: list[str]) -> _Listed:
    if len(words) not in (3, 4):
        raise ValueError("a line is a name, a role, a SHA-256 and, for the role write, hosts")
    name, role, digest, *hosts = words
    if not NAME.fullmatch(name):
        raise ValueError(f"the name {name[:80]!a} is not 1 to 64 letters, digits and ._@-")
    if role not in list(Role):
        raise ValueError(f"the role is {role[:80]!a}, not read, write or admin")
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"the SHA-256 of {name} is not 64 digits of 0-9 and a-f")
    if hosts and role != Role.WRITE:
        raise ValueError(f"{name} has the role {role}, so hosts mean nothing; only write takes them")
    if hosts and not HOSTS.fullmatch(hosts[0]):
        raise ValueError(f"{hosts[0][:80]!a} is no pattern of host names")
    return _Listed(digest, Caller(name, Role(role), *hosts))
