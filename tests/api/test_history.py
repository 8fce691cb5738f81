"""Console, events, audit; and events as they happen, over a real socket."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from hugepool.api import event_stream
from hugepool.main import create_app
from hugepool.settings import Settings
from tests.api.conftest import NR, HostApi, refused


def test_events_tell_every_change_in_order(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    host.put("deferred-frees", {"mode": "manual"})
    events = host.get("events")["items"]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "HostBooted"
    assert [event["type"] for event in events if event["revision"] > 1] == [
        "VmemmapSplit", "PoolResized", "DeferredModeSet",
    ]  # fmt: skip
    first = host.get("events", params={"limit": 2})
    assert first["next_after"] == 2
    assert host.get("events", params={"after": 2})["items"] == events[2:]
    past = host.get("events", params={"after": 10_000})
    assert past == {"items": [], "next_after": 10_000}


@pytest.mark.parametrize("query", ["after=-1", "after=x", f"after={10**30}", "limit=0", "limit=1001"])
def test_a_wrong_piece_of_history_is_refused(host: HostApi, query: str) -> None:
    refused(host.ask("GET", f"events?{query}"), 422, "EINVAL")


def test_the_console_is_json_or_text(host: HostApi) -> None:
    lines = host.get("dmesg")["lines"]
    assert "HugeTLB: can free 6 vmemmap pages for hugepages-2048kB" in lines
    text = host.ask("GET", "dmesg", headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == "".join(f"{line}\n" for line in lines)
    assert text.headers["vary"] == "Accept"
    for accept in ("*/*", "application/json, text/plain", "text/html"):
        assert host.ask("GET", "dmesg", headers={"Accept": accept}).json()["lines"] == lines


def test_the_audit_holds_every_law(host: HostApi) -> None:
    host.put(NR, {"count": 50})
    host.post("tasks", {"kind": "hugetlb", "count": 4, "touch": 4})
    body = host.get("audit")
    assert body["ok"] is True
    assert len(body["laws"]) > 5
    assert all(law["ok"] for law in body["laws"])


# -- the stream --------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of a service on a free port."""
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(event_stream, "WAIT_SECONDS", 0.1)
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/hugepool.db"))
    app.state.streams = event_stream.Streams(2)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10) as client:
            client.post("/v1/hosts", json={"name": "lab", "spec": {"nodes": [{"memory": "1G"}]}})
            yield client
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


STREAM = "/v1/hosts/lab/events/stream"


def ids(lines: Iterator[str], most: int) -> list[int]:
    """The numbers of the next events."""
    found: list[int] = []
    for line in lines:
        if line.startswith("id: "):
            found.append(int(line[4:]))
            if len(found) == most:
                break
    return found


def resize(client: httpx.Client, count: int) -> None:
    assert client.put(f"/v1/hosts/lab/{NR}", json={"count": count}).status_code == 200


def history(client: httpx.Client) -> list[Any]:
    return list(client.get("/v1/hosts/lab/events", params={"limit": 1000}).json()["items"])


def test_a_stream_tells_the_past_and_then_what_happens(served: httpx.Client) -> None:
    past = len(history(served))
    with served.stream("GET", STREAM) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert ids(lines, past) == list(range(1, past + 1))
        resize(served, 3)
        assert ids(lines, 1) == [past + 1]


def test_a_stream_goes_on_behind_the_last_event_without_loss_or_repetition(served: httpx.Client) -> None:
    seen: list[int] = []
    for round_ in range(1, 6):
        resize(served, round_)
        resize(served, 0)
        headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
        with served.stream("GET", STREAM, headers=headers) as stream:
            seen += ids(stream.iter_lines(), 2)
    missing = len(history(served)) - len(seen)
    with served.stream(
        "GET", STREAM, params={"after": 0}, headers={"Last-Event-ID": str(seen[-1])}
    ) as stream:
        seen += ids(stream.iter_lines(), missing)
    assert seen == [event["id"] for event in history(served)]


def test_a_quiet_stream_shows_that_it_is_alive_and_ends_with_its_host(served: httpx.Client) -> None:
    past = len(history(served))
    with served.stream("GET", STREAM, headers={"Last-Event-ID": str(past)}) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if "alive" in line) == ": alive"
        assert served.delete("/v1/hosts/lab").status_code == 204
        assert ids(lines, 1) == []


def test_only_so_many_streams_are_open_at_once(served: httpx.Client) -> None:
    with served.stream("GET", STREAM), served.stream("GET", STREAM):
        answer = refused(served.get(STREAM), 503, "EAGAIN")
        assert "2 event streams" in answer["detail"]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with served.stream("GET", STREAM) as stream:
            if stream.status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail("a closed stream did not give its place back")


@pytest.mark.parametrize("number", ["x", "-1", "1" * 30])
def test_a_malformed_last_event_id_is_refused(host: HostApi, number: str) -> None:
    refused(host.ask("GET", "events/stream", headers={"Last-Event-ID": number}), 422, "EINVAL")
