"""A .tar.gz of /proc and /sys as a mapping of path to text, read in memory and within limits."""

import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from hugepool.fs.paths import MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, is_link, path_trick, relevant
from hugepool.mm.machine.errors import BadInput, TooLarge

# Where the machine's root begins in a member's name: "", "./", "/", or one top folder such as "prod-17/".
_ROOT = re.compile(r"(?:\./|/)?(?:(?!(?:proc|sys)/)[^/]{1,255}/)?(?=(?:proc|sys)/)")
# The last three: tarfile takes the numbers of hostile headers as they come.
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError,
           ValueError, OverflowError, IndexError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of an archive is read: bytes as sent, bytes unpacked, members, bytes of one file."""

    packed_bytes: int = 64 << 20
    total_bytes: int = MAX_TOTAL_BYTES
    members: int = 4 * MAX_FILES
    file_bytes: int = MAX_FILE_BYTES


DEFAULT_LIMITS = Limits()


class _Bounded(io.RawIOBase):
    """A reader that refuses to go on after ``limit`` bytes: what tarfile sees of a bomb is bounded."""

    def __init__(self, source: BinaryIO | gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self._source = source
        self._left = limit

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes.  Raises TooLarge when more than the limit was asked for in all."""
        part = self._source.read(min(size, 1 << 20) if size >= 0 else 1 << 20)
        self._left -= len(part)
        if self._left < 0:
            raise TooLarge("the unpacked archive is too large")
        return part

    def readable(self) -> bool:
        """Always."""
        return True


def read_archive(data: bytes | BinaryIO, limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    """The files of an archive that describe a machine, by absolute path; links to nodes with empty text.

    Members may begin with ``./``, ``/`` or one top folder; all else that is not of ``paths.RELEVANT`` is left
    out.  Nothing is written to disk.

    Raises:
        TooLarge: more bytes or members than ``limits`` allow.
        BadInput: not a .tar.gz, cut off, a path with tricks, a device, a file twice, not text.
    """
    if isinstance(data, bytes) and len(data) > limits.packed_bytes:
        raise TooLarge(f"the archive has {len(data)} bytes; at most {limits.packed_bytes} are read")
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    files: dict[str, str] = {}
    try:
        with gzip.GzipFile(fileobj=source, mode="rb") as unpacked:
            bounded = _Bounded(unpacked, limits.total_bytes)
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for count, member in enumerate(archive, 1):
                    if count > limits.members:
                        raise TooLarge(f"more than {limits.members} members")
                    _take(files, archive, member, limits)
            while bounded.read():  # so that a damaged or endless tail is noticed
                pass
    except _BROKEN as error:
        raise BadInput(f"not a whole .tar.gz archive: {error}", where="archive") from None
    except OSError as error:
        raise BadInput(f"cannot be read: {error}", where="archive") from None
    if not files:
        raise BadInput("has no file of /proc or /sys that describes a machine", where="archive")
    return files


def _take(files: dict[str, str], archive: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> None:
    path = _path_of(member.name)
    if path is None or not relevant(path):
        return
    if member.isdir():
        return
    if is_link(path):
        files[path] = ""
        return
    if not member.isreg():
        raise BadInput("is a device, a pipe or a link, not a file", where=path)
    if path in files:
        raise BadInput("is there twice in the archive", where=path)
    if member.size > limits.file_bytes:
        raise TooLarge(f"{path} has {member.size} bytes; at most {limits.file_bytes} are read of one file")
    stream = archive.extractfile(member)
    content = stream.read() if stream else b""
    if len(content) != member.size:
        raise BadInput("is cut off", where=path)
    try:
        files[path] = content.decode()
    except UnicodeDecodeError:
        raise BadInput("is not text", where=path) from None


def _path_of(name: str) -> str | None:
    if "\0" in name or ".." in name.split("/"):
        raise BadInput(f"the member {name[:80]!r} leaves the archive", where="archive")
    match = _ROOT.match(name)
    if match is None:
        return None
    path = "/" + name[match.end() :].rstrip("/")
    return None if path_trick(path) else path


def make_archive(files: Mapping[str, str]) -> bytes:
    """A .tar.gz of files by absolute path: the same bytes for the same files, whatever their order."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(files):
            member = tarfile.TarInfo(path.lstrip("/"))
            if is_link(path):
                member.type = tarfile.SYMTYPE
                member.linkname = "../../" + "/".join(_link_target(path))
                archive.addfile(member)
                continue
            content = files[path].encode()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _link_target(path: str) -> tuple[str, str]:
    name = path.rpartition("/")[2]
    return ("memory" if name.startswith("memory") else "node"), name
