"""A server that speaks hugepool's HTTP and means harm, and what a client must not have touched."""

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import unquote

HOST = "lab"
Behaviour = Callable[[BaseHTTPRequestHandler], None]
Answer = list[Any] | bytes | Behaviour


def folder(*names: str) -> list[Any]:
    """The listing of a folder with folders."""
    return [{"name": name, "type": "directory", "mode": "0755"} for name in names]


def file(name: str, mode: str = "0644") -> dict[str, Any]:
    """An entry of a listing."""
    return {"name": name, "type": "file", "mode": mode}


def link(name: str, target: Any) -> dict[str, Any]:
    """An entry of a listing."""
    return {"name": name, "type": "symlink", "mode": "0777", "target": target}


def honest_tree() -> dict[str, Answer]:
    """A small host: what is listed is there."""
    node, memory = "/sys/devices/system/node", "/sys/devices/system/memory"
    return {
        "/": folder("proc", "sys"),
        "/proc": [*folder("sys"), file("meminfo", "0444")],
        "/proc/meminfo": b"MemTotal: 1 kB\n",
        "/proc/sys": folder("vm"),
        "/proc/sys/vm": [file("nr_hugepages")],
        "/proc/sys/vm/nr_hugepages": b"3\n",
        "/sys": folder("devices"),
        "/sys/devices": folder("system"),
        "/sys/devices/system": folder("node", "memory"),
        node: [*folder("node0"), file("online", "0444")],
        f"{node}/online": b"0\n",
        f"{node}/node0": [link("memory0", "../../memory/memory0")],
        memory: folder("memory0"),
        f"{memory}/memory0": [link("node0", "../../node/node0"), file("state")],
        f"{memory}/memory0/state": b"online\n",
    }


@dataclass
class Hostile:
    """A running server.

    Attributes:
        tree: path -> what is answered: a listing, the bytes of a file, or a function that answers as it likes.
        host: the same for the host itself.
        revisions: what the host claims to be at, one for each question.
        otherwise: what is answered for any other path.
    """

    url: str = ""
    tree: dict[str, Answer] = field(default_factory=honest_tree)
    host: Behaviour | None = None
    revisions: Iterator[Any] = field(default_factory=lambda: repeat(1))
    otherwise: Answer | None = None

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        path = unquote(handler.path.partition("?")[0], errors="surrogateescape")
        prefix = f"/v1/hosts/{HOST}"
        if path == prefix:
            host = self.host or (lambda handler: send_json(handler, {"revision": next(self.revisions)}))
            host(handler)
        elif not path.startswith(f"{prefix}/fs"):
            send(handler, b"", status=404)
        else:
            self._file(handler, "/" + path.removeprefix(f"{prefix}/fs").strip("/"))

    def _file(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        found = self.tree.get(path, self.otherwise)
        if found is None:
            send(handler, b"", status=404)
        elif isinstance(found, list):
            send_json(handler, {"entries": found})
        elif isinstance(found, bytes):
            send(handler, found)
        else:
            found(handler)


def send(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, kind: str = "text/plain", **headers: str
) -> None:
    """An answer of a known length."""
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "ETag": '"1"', **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def send_json(handler: BaseHTTPRequestHandler, value: Any) -> None:
    """An answer in JSON; a text may hold half a surrogate pair."""
    send(handler, json.dumps(value).encode(), kind="application/json")


def send_for_ever(handler: BaseHTTPRequestHandler, part: bytes, kind: str = "application/json") -> None:
    """An answer that ends only with the connection."""
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("ETag", '"1"')
    handler.end_headers()
    handler.close_connection = True
    with suppress(OSError):
        while True:
            handler.wfile.write(part)


@contextmanager
def hostile_server() -> Iterator[Hostile]:
    """A server on the loopback, for the time of the block."""
    hostile = Hostile()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(OSError):  # a client may leave in the middle
                hostile.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hostile.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hostile
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def everything_in(top: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below a folder: mode with type, and bytes or target.  No link is followed."""
    found = {}
    for path, folders, files in os.walk(top):
        for name in [*folders, *files]:
            where = Path(path, name)
            mode = where.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.fsencode(where.readlink())
            elif stat.S_ISREG(mode):
                content = where.read_bytes()
            found[str(where.relative_to(top))] = (mode, content)
    return found
