"""An archive of /proc and /sys as a mapping of path to text, read in memory and within limits."""

import gzip
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from hugepool.fs import sosreport
from hugepool.fs.paths import MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, is_link, path_trick, relevant
from hugepool.fs.tar import Kind, Member, TarStream
from hugepool.fs.tar_write import Entry, tar_of
from hugepool.fs.unpack import Unpacked
from hugepool.mm.machine.errors import BadInput, TooLarge

# Where the machine's root begins in a member's name: "", "./", "/", or one top folder such as "prod-17/".
_ROOT = re.compile(r"(?:\./|/)?(?:(?!(?:proc|sys|sos_commands)/)[^/]{1,255}/)?(?=(?:proc|sys|sos_commands)/)")
_TIMED = "/proc/meminfo"  # its mtime is when the machine was looked at


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of an archive is read: bytes unpacked, bytes kept, members, bytes of one file."""

    unpacked_bytes: int = 1 << 30
    kept_bytes: int = MAX_TOTAL_BYTES
    members: int = 2 * MAX_FILES
    file_bytes: int = MAX_FILE_BYTES


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class Archive:
    """What an archive says of a machine.

    Attributes:
        files: text by absolute path; links to nodes with empty text.
        taken_s: when it was collected, in seconds since 1970; 0 when the archive does not say.
    """

    files: dict[str, str] = field(default_factory=dict)
    taken_s: int = 0


def read_archive(
    source: BinaryIO, limits: Limits = DEFAULT_LIMITS, progress: Callable[[int], None] | None = None
) -> Archive:
    """The files of a tar, packed or not, that describe a machine; ``progress`` is called with how many bytes were read.

    Members may begin with ``./``, ``/`` or one top folder; all else that is not of ``paths.RELEVANT`` or of a
    sosreport is left out.  Nothing is written to disk.

    Raises:
        TooLarge: more bytes or members than ``limits`` allow.
        BadInput: no archive, cut off, a path with tricks, a device, a file twice, not text.
    """
    found, kept = Archive(), 0
    try:
        unpacked = Unpacked(source, limits.unpacked_bytes, progress)
        stream = TarStream(unpacked.read, limits.members)
        for member in stream.members():
            path = _path_of(member.name)
            if path is None:
                continue
            kept += member.size
            if kept > limits.kept_bytes:
                raise TooLarge(f"the archive has more than {limits.kept_bytes} bytes of /proc and /sys")
            _take(found, path, member, stream, limits)
        while unpacked.read(1 << 20):  # so that a damaged or endless tail is noticed
            pass
    except OSError as error:
        raise BadInput(f"cannot be read: {error}", where="archive") from None
    found.files = sosreport.translated(found.files)
    if not found.files:
        raise BadInput("has no file of /proc or /sys that describes a machine", where="archive")
    return found


def _take(found: Archive, path: str, member: Member, stream: TarStream, limits: Limits) -> None:
    if is_link(path):
        found.files[path] = ""
        return
    if member.kind == Kind.FOLDER:
        return
    if member.kind != Kind.FILE:
        raise BadInput(f"is a {member.kind.value}, not a plain file", where=path)
    if path in found.files:
        raise BadInput("is there twice in the archive", where=path)
    if member.size > limits.file_bytes:
        raise TooLarge(f"{path} has {member.size} bytes; at most {limits.file_bytes} are read of one file")
    try:
        found.files[path] = stream.content().decode()
    except UnicodeDecodeError:
        raise BadInput("is not text", where=path) from None
    if path == _TIMED:
        found.taken_s = member.mtime


def _path_of(name: str) -> str | None:
    """The absolute path of a member that an import reads."""
    if "\0" in name or ".." in name.split("/"):
        raise BadInput(f"the member {name[:80]!r} leaves the archive", where="archive")
    match = _ROOT.match(name)
    if match is None:
        return None
    path = "/" + name[match.end() :].rstrip("/")
    wanted = relevant(path) or sosreport.is_source(path)
    return path if wanted and path_trick(path) is None else None


def make_archive(files: Mapping[str, str], taken_s: int = 0) -> bytes:
    """A .tar.gz of files by absolute path: the same bytes for the same files, whatever their order."""
    entries = [
        Entry(path.lstrip("/"), target=_link_target(path))
        if is_link(path)
        else Entry(path.lstrip("/"), files[path].encode())
        for path in sorted(files)
    ]
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed:
        packed.write(tar_of(entries, taken_s))
    return out.getvalue()


def _link_target(path: str) -> str:
    name = path.rpartition("/")[2]
    return f"../../{'memory' if name.startswith('memory') else 'node'}/{name}"
