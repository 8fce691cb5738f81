"""The thinnest HTTP client there is, so that what is measured is the server."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.bench.server import LOOPBACK, PATIENCE_SECONDS


class Wire:
    """One kept connection; requests one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send a request."""
        self._socket.sendall(raw)

    def receive(self) -> tuple[int, bytes]:
        """Status and body of the answer."""
        data = self._socket.recv(1 << 16)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        while len(data) < end + 4 + length:
            data += self._more()
        return int(head[9:12]), data[end + 4 :]

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server hung up")
        return data

    def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """One request; the body of its answer.  Any refusal is an error."""
        self.send(request(method, path, body))
        status, answer = self.receive()
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return answer


def request(method: str, path: str, body: Any = None) -> bytes:
    """A request as bytes; ``body`` is sent as it is, or as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


@contextmanager
def connected(port: int, count: int) -> Iterator[list[Wire]]:
    """Some connections, closed afterwards; the first waits until the server listens."""
    with ExitStack() as stack:
        wires = []
        for _ in range(count):
            wires.append(Wire(port))
            stack.callback(wires[-1].close)
        yield wires


def burst(wires: list[Wire], raw: bytes, rounds: int) -> float:
    """Seconds of ``rounds`` times one request on every connection at once: the server always has work."""
    began = time.perf_counter()
    for wire in wires:
        wire.send(raw)
    for left in range(rounds - 1, -1, -1):
        for wire in wires:
            status, _ = wire.receive()
            if status != 200:
                raise RuntimeError(f"status {status}")
            if left:
                wire.send(raw)
    return time.perf_counter() - began
