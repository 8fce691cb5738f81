"""The conversation with the kernel over ``/dev/fuse``: requests come in, ``HostFiles`` answers.

read(2) and write(2) of programs come as they are (direct I/O).  sendfile(2), splice(2) and private mmap(2) read through
the page cache, which a Linux from 6.5 on uses for them whatever a file system says; see ``_fill``.
"""

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from queue import Queue

from hugepool.mirror import protocol as p
from hugepool.mirror.nodes import Node, Nodes
from hugepool.mirror.operations import Attributes, Changes, HostFiles, failure, may
from hugepool.mirror.view import LISTING_SECONDS

THREADS = 8  # each waits for one answer of the service
MOST_BYTES = 128 << 10  # of one read or write
PAGE_BYTES = 4096
ANNOUNCED_SECONDS = 0.05  # how long what stat(2) saw is what sendfile(2) or mmap(2) right behind it reads
FORGET_SECONDS = 0.005  # how long filled pages stay: until who waits for them has them
AGAIN_SECONDS = 0.02  # who missed them all the same asks again so soon
NAME_BYTES = 255
NS_PER_S = 1_000_000_000
FEATURES = (
    p.Feature.ASYNC_READ | p.Feature.BIG_WRITES | p.Feature.DO_READDIRPLUS | p.Feature.READDIRPLUS_AUTO
    | p.Feature.PARALLEL_DIROPS | p.Feature.MAX_PAGES
)  # fmt: skip
READABLE, WRITABLE = os.R_OK, os.W_OK
KNOWN = sum(p.Valid)
ACCESS = {os.O_RDONLY: READABLE, os.O_WRONLY: WRITABLE}


@dataclass(frozen=True, slots=True)
class Request:
    """What the kernel asks."""

    op: int
    unique: int
    node: int
    uid: int
    gid: int
    body: memoryview

    @property
    def name(self) -> str:
        """The name at the beginning of the body."""
        return os.fsdecode(bytes(self.body).partition(b"\0")[0])


@dataclass(frozen=True, slots=True)
class Fixed:
    """Files that are laid over others one by one, and a descriptor of the root below which they are found so."""

    paths: Collection[str] = ()
    root: int | None = None


class Session:
    """One mount's conversation, over a descriptor of ``/dev/fuse`` that is mounted.

    Args:
        fixed: files that are laid over others one by one.  Such a file is not looked up when it is opened: it stays
            one node.
    """

    def __init__(self, device: int, files: HostFiles, fixed: Fixed | None = None) -> None:
        self._device, self._files = device, files
        self._fixed = fixed or Fixed()
        self._opened: Queue[Request] = Queue()
        self._nodes = Nodes()
        self._folders: dict[int, list[tuple[str, int, int]]] = {}
        self._numbers = count(1)
        self._stale: Queue[tuple[float, int]] = Queue()
        self.ended = threading.Event()

    def begin(self) -> None:
        """Agree with the kernel on the protocol, and answer in threads from now on; ``ended`` is set by unmounting.

        Raises:
            OSError: the kernel does not speak it.
        """
        buffer = bytearray(MOST_BYTES + PAGE_BYTES)
        request = self._request(buffer, os.readv(self._device, [buffer]))
        major, minor, readahead, offered = p.INIT_IN.unpack_from(request.body)
        if (major, minor) < (p.MAJOR, p.MINOR):
            self._send(request.unique, -errno.EPROTO, b"")
            raise OSError(
                errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}, older than 7.31 of Linux 5.4"
            )
        agreed = p.INIT_OUT.pack(
            p.MAJOR, p.MINOR, readahead, offered & FEATURES, THREADS, THREADS, MOST_BYTES, 1,
            MOST_BYTES // PAGE_BYTES, 0, 0,
        )  # fmt: skip
        self._send(request.unique, 0, agreed)
        for _ in range(THREADS):
            threading.Thread(target=self._serve, daemon=True).start()
        for work in (self._forget_pages, self._open_fixed):
            threading.Thread(target=work, daemon=True).start()

    def _serve(self) -> None:
        buffer = bytearray(MOST_BYTES + PAGE_BYTES)
        while True:
            try:
                length = os.readv(self._device, [buffer])
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # the caller was interrupted
                    continue
                self.ended.set()  # ENODEV: unmounted
                return
            self._answer(self._request(buffer, length))

    @staticmethod
    def _request(buffer: bytearray, length: int) -> Request:
        _, op, unique, node, uid, gid, *_ = p.IN_HEADER.unpack_from(buffer)
        return Request(op, unique, node, uid, gid, memoryview(buffer)[p.IN_HEADER.size : length])

    def _answer(self, request: Request) -> None:
        operation = _OPERATIONS.get(request.op)
        if operation is None:
            self._send(request.unique, -errno.ENOSYS, b"")
        else:
            self._answer_by(operation, request)

    def _answer_by(self, operation: "Operation", request: Request) -> None:
        try:
            answer = operation(self, request)
        except OSError as error:
            self._send(request.unique, -(error.errno or errno.EIO), b"")
        except Exception:  # noqa: BLE001 - a program gets an error, and the mount goes on
            self._send(request.unique, -errno.EIO, b"")
        else:
            if answer is not None:
                self._send(request.unique, 0, answer)

    def _send(self, unique: int, error: int, payload: bytes) -> None:
        header = p.OUT_HEADER.pack(p.OUT_HEADER.size + len(payload), error, unique)
        with suppress(OSError):  # the caller, or the mount, is gone
            os.writev(self._device, [header, payload])

    # -- names -----------------------------------------------------------------------------------------------

    def _path(self, request: Request) -> str:
        return f"{self._nodes[request.node].path.rstrip('/')}/{request.name}"

    def look_up(self, request: Request) -> bytes:
        return self._entry(self._path(request))

    def _entry(self, path: str) -> bytes:
        attributes = self._files.attributes(path)
        node = self._nodes.look_up(path, attributes)
        seconds = 0 if node.is_file else int(LISTING_SECONDS)
        entry = p.ENTRY_OUT.pack(node.number, 0, seconds, seconds, 0, 0)
        return entry + _packed(replace(attributes, size=node.size))

    def forget(self, request: Request) -> None:
        self._nodes.forget(request.node, *p.FORGET_IN.unpack_from(request.body))

    def forget_many(self, request: Request) -> None:
        many, _ = p.BATCH_FORGET_IN.unpack_from(request.body)
        for index in range(many):
            start = p.BATCH_FORGET_IN.size + index * p.FORGET_ONE.size
            self._nodes.forget(*p.FORGET_ONE.unpack_from(request.body, start))

    def read_link(self, request: Request) -> bytes:
        return os.fsencode(self._files.link(self._nodes[request.node].path))

    # -- attributes ------------------------------------------------------------------------------------------

    def get_attributes(self, request: Request) -> bytes:
        node = self._nodes[request.node]
        attributes = self._files.attributes(node.path)
        if node.is_file:
            with node.filling:
                node.text = self._files.text(node.path)
                node.size, node.announced_at = len(node.text), time.monotonic()
        return self._attributes(node, attributes)

    def _attributes(self, node: Node, attributes: Attributes) -> bytes:
        seconds = 0 if node.is_file else int(LISTING_SECONDS)
        return p.ATTRIBUTES_OUT.pack(seconds, 0, 0) + _packed(replace(attributes, size=node.size))

    def set_attributes(self, request: Request) -> bytes:
        node = self._nodes[request.node]
        valid, *values = p.SETATTR_IN.unpack_from(request.body)
        attributes = self._files.attributes(node.path)
        changes = _changes(p.Valid(valid & KNOWN), values)
        if valid & p.Valid.SIZE:  # truncate(2): a file of the kernel has no length that could be cut
            if not may(attributes, request.uid, request.gid, WRITABLE):
                raise failure(errno.EACCES, node.path)
            return self._attributes(node, attributes)
        if request.uid not in (0, attributes.uid):
            raise failure(errno.EPERM, node.path)
        return self._attributes(node, self._files.change(node.path, changes))

    def access(self, request: Request) -> bytes:
        (wanted,) = p.ACCESS_IN.unpack_from(request.body)
        attributes = self._files.attributes(self._nodes[request.node].path)
        if not may(attributes, request.uid, request.gid, wanted):
            raise failure(errno.EACCES, "")
        return b""

    def statfs(self, request: Request) -> bytes:
        del request
        return p.STATFS_OUT.pack(0, 0, 0, 0, 0, PAGE_BYTES, NAME_BYTES, PAGE_BYTES, 0)

    # -- folders ---------------------------------------------------------------------------------------------

    def open_folder(self, request: Request) -> bytes:
        path = self._nodes[request.node].path
        here = [(".", 1, stat.S_IFDIR), ("..", 1, stat.S_IFDIR)]
        number = next(self._numbers)
        self._folders[number] = here + self._files.entries(path)
        return p.OPEN_OUT.pack(number, 0, 0)

    def read_folder(self, request: Request) -> bytes:
        return self._names(request, lambda _: b"")

    def read_folder_plus(self, request: Request) -> bytes:
        """Names with the nodes of folders and links; a file is a new node when it is looked up."""
        path = self._nodes[request.node].path.rstrip("/")
        nothing = bytes(p.ENTRY_OUT.size + p.ATTRIBUTES.size)

        def entry(name: tuple[str, int, int]) -> bytes:
            known = name[2] != stat.S_IFREG and name[0] not in (".", "..")
            try:
                return self._entry(f"{path}/{name[0]}") if known else nothing
            except OSError:  # it went away
                return nothing

        return self._names(request, entry)

    def _names(self, request: Request, prefix: Callable[[tuple[str, int, int]], bytes]) -> bytes:
        handle, offset, size, *_ = p.READ_IN.unpack_from(request.body)
        names = self._folders[handle]
        packed = bytearray()
        ahead = len(prefix(names[0])) if names else 0
        for index in range(offset, len(names)):
            name, inode, mode = names[index]
            raw = os.fsencode(name)
            length = ahead + p.DIRENT.size + len(raw)
            if len(packed) + length + -length % 8 > size:
                break
            packed += prefix(names[index])
            packed += p.DIRENT.pack(inode, index + 1, len(raw), mode >> 12) + raw + bytes(-length % 8)
        return bytes(packed)

    def close_folder(self, request: Request) -> bytes:
        (handle,) = p.RELEASE_IN.unpack_from(request.body)
        self._folders.pop(handle, None)
        return b""

    # -- files -----------------------------------------------------------------------------------------------

    def open(self, request: Request) -> bytes | None:
        if self._nodes[request.node].path not in self._fixed.paths:
            return self.open_now(request)
        self._opened.put(replace(request, body=memoryview(bytes(request.body))))
        return None

    def _open_fixed(self) -> None:
        """Have the kernel ask for the size of a file before it is open: there was no look-up to answer it."""
        while not self.ended.is_set():
            request = self._opened.get()
            with suppress(OSError):
                os.stat(self._nodes[request.node].path[1:], dir_fd=self._fixed.root)
            self._answer_by(Session.open_now, request)

    def open_now(self, request: Request) -> bytes:
        path = self._nodes[request.node].path
        flags, _ = p.OPEN_IN.unpack_from(request.body)
        wanted = ACCESS.get(flags & os.O_ACCMODE, READABLE | WRITABLE)
        if not may(self._files.attributes(path), request.uid, request.gid, wanted):
            raise failure(errno.EACCES, path)
        return p.OPEN_OUT.pack(self._files.open(path, flags), p.DIRECT_IO, 0)

    def read(self, request: Request) -> bytes | None:
        handle, offset, size, how, *_ = p.READ_IN.unpack_from(request.body)
        if how & p.READ_HAS_OWNER:
            return self._files.read(handle, size, offset)
        self._fill(request, self._nodes[request.node], offset, size)
        return None

    def _fill(self, request: Request, node: Node, offset: int, size: int) -> None:
        """Fill pages of the page cache, and have them forgotten soon: who reads again reads what is there then.

        A text that ends before the file's size moves it: the kernel does so by a short answer.
        """
        with node.filling:
            if offset == 0:
                self._make_text(node)
            text = node.text
        self._send(request.unique, 0, text[offset : offset + size])
        if offset + size >= len(text):
            self._stale.put((time.monotonic() + FORGET_SECONDS, node.number))

    def _make_text(self, node: Node) -> None:
        """What a file holds, for the page cache.

        Raises:
            OSError: EINVAL, longer than the kernel believes, which no answer changes; programs use read(2) then.
        """
        now = time.monotonic()
        if now - node.announced_at > ANNOUNCED_SECONDS:
            text = self._files.text(node.path)
            if len(text) <= node.size:
                node.text = text
            elif now - node.filled_at > AGAIN_SECONDS:
                raise failure(errno.EINVAL, node.path)
        node.size, node.filled_at = len(node.text), time.monotonic()

    def _forget_pages(self) -> None:
        """One after another; as long as pages were just filled, who waits for them would have to ask again."""
        while not self.ended.is_set():
            due, number = self._stale.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._send(0, p.NOTIFY_INVALIDATE_INODE, p.INVALIDATE_INODE.pack(number, 0, -1))

    def write(self, request: Request) -> bytes:
        handle, offset, size, *_ = p.WRITE_IN.unpack_from(request.body)
        data = bytes(request.body[p.WRITE_IN.size : p.WRITE_IN.size + size])
        return p.WRITE_OUT.pack(self._files.write(handle, data, offset), 0)

    def release(self, request: Request) -> bytes:
        self._files.release(*p.RELEASE_IN.unpack_from(request.body))
        return b""

    # -- the rest --------------------------------------------------------------------------------------------

    def nothing(self, request: Request) -> bytes:
        del request
        return b""

    def ignore(self, request: Request) -> None:
        del request

    def refuse_new(self, request: Request) -> bytes:
        raise failure(errno.EACCES, self._nodes[request.node].path)

    def refuse(self, request: Request) -> bytes:
        raise failure(errno.EPERM, self._nodes[request.node].path)


Operation = Callable[[Session, Request], bytes | None]  # None: it is answered otherwise, or not at all
_OPERATIONS: dict[int, Operation] = {
    p.Op.LOOKUP: Session.look_up,
    p.Op.FORGET: Session.forget,
    p.Op.BATCH_FORGET: Session.forget_many,
    p.Op.GETATTR: Session.get_attributes,
    p.Op.SETATTR: Session.set_attributes,
    p.Op.ACCESS: Session.access,
    p.Op.READLINK: Session.read_link,
    p.Op.STATFS: Session.statfs,
    p.Op.OPENDIR: Session.open_folder,
    p.Op.READDIR: Session.read_folder,
    p.Op.READDIRPLUS: Session.read_folder_plus,
    p.Op.RELEASEDIR: Session.close_folder,
    p.Op.OPEN: Session.open,
    p.Op.READ: Session.read,
    p.Op.WRITE: Session.write,
    p.Op.RELEASE: Session.release,
    p.Op.FSYNC: Session.nothing,
    p.Op.DESTROY: Session.nothing,
    p.Op.INTERRUPT: Session.ignore,
    p.Op.CREATE: Session.refuse_new,
    **dict.fromkeys(
        (p.Op.SYMLINK, p.Op.MKNOD, p.Op.MKDIR, p.Op.UNLINK, p.Op.RMDIR, p.Op.RENAME, p.Op.RENAME2, p.Op.LINK),
        Session.refuse,
    ),
}


def _packed(attributes: Attributes) -> bytes:
    size = attributes.size or 0
    seconds, ns = zip(*(divmod(at, NS_PER_S) for at in attributes.times_ns), strict=True)
    nlink = 2 if stat.S_ISDIR(attributes.mode) else 1
    return p.ATTRIBUTES.pack(
        attributes.inode, size, 0, *seconds, seconds[1], *ns, ns[1],
        attributes.mode, nlink, attributes.uid, attributes.gid, 0, PAGE_BYTES, 0,
    )  # fmt: skip


def _changes(valid: p.Valid, values: list[int]) -> Changes:
    """What a SETATTR sets; its values as ``SETATTR_IN`` has them behind ``valid``."""
    _, _, _, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = values
    now = time.time_ns()
    accessed = now if valid & p.Valid.ATIME_NOW else atime * NS_PER_S + atime_ns
    changed = now if valid & p.Valid.MTIME_NOW else mtime * NS_PER_S + mtime_ns
    return Changes(
        mode if valid & p.Valid.MODE else None,
        uid if valid & p.Valid.UID else None,
        gid if valid & p.Valid.GID else None,
        accessed if valid & p.Valid.ATIME else None,
        changed if valid & p.Valid.MTIME else None,
    )
