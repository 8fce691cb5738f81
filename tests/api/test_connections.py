"""Slow and greedy clients on real sockets: they are let go of, and everybody else is served meanwhile."""

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.api.connections import MAX_HEAD_BYTES
from hugepool.harness.server import Server, serving
from hugepool.server import warn_if_open
from hugepool.settings import Settings, unknown_variables

HEAD_SECONDS = 0.5
SEND_SECONDS = 0.5
CONNECTIONS = 20
PATIENCE_SECONDS = 30.0
TIMES = 100  # more than the buffers of both ends hold
ASK = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "HUGEPOOL_HEADER_SECONDS": str(HEAD_SECONDS),
        "HUGEPOOL_SEND_SECONDS": str(SEND_SECONDS),
    }
    with serving(tmp_path_factory.mktemp("connections"), settings=settings) as found:
        yield found


def connect(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), PATIENCE_SECONDS)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def problem_in(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"Connection: close" in head
    problem: dict[str, object] = json.loads(body)
    assert str(problem["status"]).encode() in head.partition(b"\r\n")[0]
    return problem


@pytest.mark.parametrize("begin", [b"", b"GET /vers", ASK[:-2], ASK + b"GET /"])
def test_a_head_that_does_not_come_in_time_is_not_waited_for(server: Server, begin: bytes) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(begin)
        began = time.monotonic()
        answers = rest(connection)
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
    problem = problem_in(answers[answers.rindex(b"HTTP/1.1") :])
    assert (problem["status"], problem["errno"]) == (408, "ETIMEDOUT")


def test_a_head_byte_by_byte_is_late_too(server: Server) -> None:
    with closing(connect(server)) as connection:
        try:
            for byte in ASK * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            return
    raise AssertionError("it was waited for")


@pytest.mark.parametrize("line", [b"X: " + b"y" * 1000, b"X" * 200])
def test_a_head_that_is_too_large_is_not_read(server: Server, line: bytes) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(ASK[:-2])
        try:
            for _ in range(4 * MAX_HEAD_BYTES // len(line)):
                connection.sendall(line + b"\r\n" if b":" in line else line)
        except (BrokenPipeError, ConnectionResetError):
            return  # closed while it was sending, which may lose the answer
        assert rest(connection).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400", b""))
    assert server.client.request("GET", "/version").is_success


def test_requests_on_a_connection_may_come_later_than_a_head_may_take(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            assert client.get("/version").status_code == 200
            time.sleep(HEAD_SECONDS * 1.5)


def test_who_does_not_read_is_disconnected(server: Server) -> None:
    ask = ASK.replace(b"/version", b"/openapi.json")
    with closing(connect(server)) as connection:
        connection.sendall(ask * TIMES)
        whole = len(httpx.get(f"{server.url}/openapi.json").content) * TIMES
        time.sleep(SEND_SECONDS * 4)
        assert len(rest(connection)) < whole


def test_more_connections_than_are_kept_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    with (
        serving(tmp_path, settings={"HUGEPOOL_CONNECTIONS": str(CONNECTIONS)}) as server,
        httpx.Client(base_url=server.url) as early,
    ):
        assert early.get("/version").status_code == 200
        with ExitStack() as stack:
            held = [stack.enter_context(closing(connect(server))) for _ in range(CONNECTIONS * 2)]
            problem = problem_in(rest(held[-1]))
            assert (problem["status"], problem["errno"]) == (503, "EAGAIN")
            assert early.get("/version").status_code == 200
        until(lambda: _is_served(server))  # those that were held are let go of


def _is_served(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/version", timeout=PATIENCE_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "127.0.0.1"}, False),
        ({"host": "::", "tokens_file": "tokens"}, False),
    ],
)
def test_listening_beyond_this_machine_without_tokens_is_warned_of(
    settings: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_if_open(Settings(**settings))
    assert ("HUGEPOOL_TOKENS_FILE" in caplog.text) == warned


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_may_be_meant() -> None:
    found = unknown_variables(
        ["HUGEPOOL_PROT", "HUGEPOOL_DATABASE", "HUGEPOOL_XYZZY", "HUGEPOOL_PORT", "hugepool_url", "HOME"]
    )
    assert found == [
        "HUGEPOOL_DATABASE is no setting of hugepool; did you mean HUGEPOOL_DATABASE_URL?",
        "HUGEPOOL_PROT is no setting of hugepool; did you mean HUGEPOOL_PORT?",
        "HUGEPOOL_XYZZY is no setting of hugepool",
    ]
