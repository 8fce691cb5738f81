"""The members of a tar stream, header by header: every number is checked before anything is done with it.

What tar archives hold that an import never needs is passed over: content of other files, links, devices.  Formats:
ustar, GNU (long names), pax (path, size and mtime), and the older one without a magic.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from hugepool.mm.machine.errors import BadInput, TooLarge

BLOCK = 512
MAX_EXTRA = 64 << 10  # bytes of a long name or of the records of pax
MAX_SIZE = 1 << 50
_DIGITS = 12  # of a number in a record of pax
_OCTAL = re.compile(rb"[\0 ]*([0-7]{0,12})[\0 ]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ")
_SECONDS = re.compile(r"([0-9]{1,12})(?:\.[0-9]{0,20})?")
_EMPTY = bytes(BLOCK)
_ZERO_SUM = sum(b"        ")


class Kind(Enum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    SPARSE = "sparse file"
    OTHER = "other"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"2": Kind.LINK,
    b"5": Kind.FOLDER,
    b"S": Kind.SPARSE,
}
_WITHOUT_CONTENT = b"123456"  # whatever their header says of a size


@dataclass(slots=True)
class Member:
    """A member; ``size``: bytes of its content; ``mtime``: seconds since 1970, 0 when it says nothing."""

    name: str
    kind: Kind
    size: int
    mtime: int


@dataclass(slots=True)
class _Extra:
    """What members of their own say of the next one."""

    name: str | None = None
    size: int | None = None
    mtime: int | None = None
    sparse: bool = False


class TarStream:
    """A tar that is read once, from its beginning; ``read(n)`` gives up to n bytes, none at the end."""

    def __init__(self, read: Callable[[int], bytes], max_members: int) -> None:
        self._read = read
        self._max_members = max_members
        self._left = 0  # bytes of the current member's content and padding
        self._size = 0  # bytes of its content

    def members(self) -> Iterator[Member]:
        """Each member in turn; ``content`` is that of the one given last.

        Raises:
            BadInput: not a tar, or one that is cut off.  TooLarge: too many members.
        """
        extra, count = _Extra(), 0
        while (header := self._exactly(BLOCK)) != _EMPTY:
            count += 1
            if count > self._max_members:
                raise TooLarge(f"the archive has more than {self._max_members} members")
            kind, size = header[156:157], _checked(header)
            if kind in b"LKxgX":
                self._of_next(kind, self._some(size), extra)
                continue
            if kind == b"S":
                self._pass_sparse_map(header)
            member = _member(header, size, extra)
            self._expect(0 if kind in _WITHOUT_CONTENT or member.kind == Kind.FOLDER else member.size)
            yield member
            self._pass()
            extra = _Extra()
        if extra != _Extra():
            raise _wrong("ends with the name of a member that does not come")

    def content(self) -> bytes:
        """The content of the current member."""
        content = self._exactly(self._size)
        self._left -= self._size
        return content

    # -- inside ------------------------------------------------------------------------------------------

    def _exactly(self, count: int) -> bytes:
        parts, missing = [], count
        while missing:
            part = self._read(missing)
            if not part:
                raise _wrong("is cut off: its end mark is missing")
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _expect(self, size: int) -> None:
        self._size, self._left = size, -(-size // BLOCK) * BLOCK

    def _pass(self) -> None:
        while self._left:
            part = self._read(min(self._left, 1 << 16))
            if not part:
                raise _wrong("is cut off in a member")
            self._left -= len(part)

    def _some(self, size: int) -> bytes:
        if size > MAX_EXTRA:
            raise TooLarge(f"the archive has a name or records of {size} bytes; at most {MAX_EXTRA} are read")
        self._expect(size)
        found = self.content()
        self._pass()
        return found

    def _of_next(self, kind: bytes, text: bytes, extra: _Extra) -> None:
        if kind == b"L":
            extra.name = _text(text.partition(b"\0")[0])
        elif kind in b"xX":
            _read_records(text, extra)

    def _pass_sparse_map(self, header: bytes) -> None:
        more = header[482]
        while more:
            more = self._exactly(BLOCK)[504]


def _wrong(what: str) -> BadInput:
    return BadInput(f"the tar {what}", where="archive")


def _checked(header: bytes) -> int:
    """The size that a header names, once its checksum fits."""
    stated = _number(header[148:156], "checksum")
    rest = header[:148] + header[156:]
    signed = sum(rest) - 256 * sum(byte >> 7 for byte in rest)
    if stated not in (sum(rest) + _ZERO_SUM, signed + _ZERO_SUM):
        raise _wrong("has a header whose checksum is wrong, or it is no tar")
    return _number(header[124:136], "size")


def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:  # GNU: two's complement, the highest bit is a mark
        value = (
            int.from_bytes(field, "big", signed=True)
            if field[0] == 0xFF
            else int.from_bytes(field[1:], "big")
        )
    else:
        match = _OCTAL.fullmatch(field)
        value = -1 if match is None else int(match[1] or b"0", 8)
    if not 0 <= value <= MAX_SIZE:
        raise _wrong(f"has a header with a wrong {what}")
    return value


def _member(header: bytes, size: int, extra: _Extra) -> Member:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    kind = _KINDS.get(header[156:157], Kind.OTHER)
    shown = _text(name) if extra.name is None else extra.name
    if kind == Kind.FILE and shown.endswith("/"):
        kind = Kind.FOLDER
    if kind == Kind.FILE and extra.sparse:
        kind = Kind.SPARSE
    mtime = _mtime(header) if extra.mtime is None else extra.mtime
    return Member(shown, kind, size if extra.size is None else extra.size, mtime)


def _mtime(header: bytes) -> int:
    """0 when it is nothing that a time can be: no reason to refuse an archive."""
    match = _OCTAL.fullmatch(header[136:148])
    return 0 if match is None else int(match[1] or b"0", 8)


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _read_records(text: bytes, extra: _Extra) -> None:
    """Records of pax: ``LENGTH KEY=VALUE\\n``, where the length counts all of it."""
    start = 0
    while start < len(text):
        match = _RECORD.match(text, start)
        end = start + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(text) or text[end - 1 : end] != b"\n":
            raise _wrong("has records that are malformed")
        key, equals, value = text[match.end() : end - 1].partition(b"=")
        if not equals:
            raise _wrong("has records that are malformed")
        _take_record(_text(key), _text(value), extra)
        start = end


def _take_record(key: str, value: str, extra: _Extra) -> None:
    if key in {"path", "GNU.sparse.name"}:
        extra.name = value
    elif key == "size":
        if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS):
            raise _wrong("has records with a wrong size")
        extra.size = int(value)
    elif key == "mtime":
        match = _SECONDS.fullmatch(value)
        extra.mtime = int(match[1]) if match else 0
    if key.startswith("GNU.sparse."):
        extra.sparse = True
