"""Compressed streams, recognised by how they begin, and read within a limit: gzip, xz, bzip2, zstd, or none."""

import bz2
import importlib
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from hugepool.mm.machine.errors import BadInput, TooLarge

_CHUNK = 64 << 10
_MAX_PART = 1 << 20
_MAX_STREAMS = 20_000
_XZ_MEMORY = 256 << 20  # xz -9 takes 65 MiB
_WINDOW_LOG = 27  # 128 MiB; what zstd itself reads without --long
_LONGEST = 6  # bytes of a magic
_MAGICS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}


class _Decompressor(Protocol):
    """One stream: as ``bz2.BZ2Decompressor``."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """One member of a gzip file, its checksum compared."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        """The member is at its end."""
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        """All that was given is decompressed."""
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What came behind the end."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """What follows, up to a length."""
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstd:
    """One frame of zstd."""

    def __init__(self) -> None:
        name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        zstd: Any = importlib.import_module(name)
        self._error: type[Exception] = zstd.ZstdError
        self._inner = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})

    @property
    def eof(self) -> bool:
        """The frame is at its end."""
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        """All that was given is decompressed."""
        return bool(self._inner.needs_input)

    @property
    def unused_data(self) -> bytes:
        """What came behind the end."""
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """What follows, up to a length."""
        try:
            return bytes(self._inner.decompress(data, max_length))
        except self._error as error:
            raise ValueError(error) from None


_MAKERS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _Gzip,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
    "zstd": _Zstd,
}


class Unpacked:
    """What a stream unpacks to; ``progress`` is called with how many packed bytes were read so far."""

    def __init__(
        self, source: BinaryIO, max_bytes: int, progress: Callable[[int], None] | None = None
    ) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._progress = progress
        self._packed = self._unpacked = self._streams = 0
        self._ahead = self._next()
        self._format = _format_of(self._ahead)
        self._stream = self._begin()
        self._part, self._at = b"", 0  # unpacked, and how much of it was given

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end.

        Raises:
            BadInput: damaged or cut off.  TooLarge: more than the limit.
        """
        if self._at == len(self._part):
            self._part, self._at = self._fill(), 0
        found = self._part[self._at : self._at + size]
        self._at += len(found)
        return found

    def _fill(self) -> bytes:
        part = b""
        while self._stream is not None and not part:
            part = self._decompressed(self._stream)
        if self._format is None:
            part, self._ahead = self._ahead or self._next(), b""
        self._unpacked += len(part)
        if self._unpacked > self._max_bytes:
            raise TooLarge(f"the archive unpacks to more than {self._max_bytes >> 20} MiB")
        return part

    def _next(self) -> bytes:
        part = self._source.read(_CHUNK)
        self._packed += len(part)
        if self._progress:
            self._progress(self._packed)
        return part

    def _begin(self) -> _Decompressor | None:
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            raise TooLarge(f"the archive is made of more than {_MAX_STREAMS} packed pieces")
        return _MAKERS[self._format]() if self._format else None

    def _decompressed(self, stream: _Decompressor) -> bytes:
        """What comes next; nothing between two streams."""
        while not stream.eof:
            given = b""
            if stream.needs_input:
                given, self._ahead = self._ahead or self._next(), b""
            part = self._step(stream, given)
            if part:
                return part
            if not given and stream.needs_input and not stream.eof:
                raise _broken(self._format, "it is cut off")
        self._follow(stream.unused_data)
        return b""

    def _step(self, stream: _Decompressor, given: bytes) -> bytes:
        try:
            return stream.decompress(given, _MAX_PART)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise _broken(self._format, str(error)) from None

    def _follow(self, rest: bytes) -> None:
        """Go on with the next stream, where several were packed one behind the other; zeros may pad the end."""
        rest += self._ahead
        while len(rest := rest.lstrip(b"\0")) < _LONGEST:
            more = self._next()
            if not more:
                break
            rest += more
        self._ahead = rest
        if rest and _format_of(rest) != self._format:
            raise _broken(self._format, "it goes on behind its end")
        self._stream = self._begin() if rest else None


def _format_of(text: bytes) -> str | None:
    return next((name for magic, name in _MAGICS.items() if text.startswith(magic)), None)


def _broken(kind: str | None, what: str) -> BadInput:
    return BadInput(f"the archive ({kind}) is damaged: {what}", where="archive")
