"""A stop lets open requests end for a while, says what it cut, and leaves whole changes only."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.harness.server import Server, serving

PATIENCE_SECONDS = 60.0
HUGE = {"nodes": [{"memory": "512G"}]}
LONG: dict[str, Any] = {"kind": "hugetlb", "count": 65_000, "touch": 65_000}  # some seconds
ENDLESS = {"rounds": 10_000, "seeds": 200}


@contextmanager
def service(folder: Path, seconds: int) -> Iterator[Server]:
    settings = {"HUGEPOOL_SHUTDOWN_SECONDS": str(seconds), "HUGEPOOL_WHAT_IF_WAIT_SECONDS": "60"}
    with serving(folder, settings=settings) as server:
        yield server


def in_background(call: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except httpx.TransportError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def is_busy(server: Server) -> bool:
    """Whether a read of the host has to wait, as a change is at work."""
    try:
        httpx.get(f"{server.url}/v1/hosts/lab", timeout=0.1)
    except httpx.ReadTimeout:
        return True
    return False


def prepared(server: Server) -> None:
    server.client.create_host("lab", HUGE)
    server.client.request("PUT", "/v1/hosts/lab/hugepages/2048kB/nr_hugepages", json={"count": 70_000})


def test_a_request_that_ends_in_time_is_answered_after_the_signal(tmp_path: Path) -> None:
    with service(tmp_path, 60) as server:
        prepared(server)
        thread, found = in_background(
            lambda: httpx.post(f"{server.url}/v1/hosts/lab/tasks", json=LONG, timeout=PATIENCE_SECONDS)
        )
        until(lambda: is_busy(server))
        os.kill(server.pid, signal.SIGTERM)
        thread.join(PATIENCE_SECONDS)
        assert found[0].status_code == 201
        assert found[0].json()["touched"] == LONG["touch"]
        until(lambda: gone(server.pid))
        log = server.log.read_text()
    assert "the stop cut" not in log
    with service(tmp_path, 60) as again:
        assert again.client.request("GET", "/v1/hosts/lab/hugepages/2048kB").json()["free_hugepages"] == 5000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_takes_longer_is_cut_and_named(tmp_path: Path, number: signal.Signals) -> None:
    with service(tmp_path, 1) as server:
        server.client.create_host("lab", {"nodes": [{"memory": "2G"}]})
        url = f"{server.url}/v1/hosts/lab/plans/churn"
        thread, found = in_background(lambda: httpx.post(url, json=ENDLESS, timeout=PATIENCE_SECONDS))
        until(lambda: bool(server.client.request("GET", "/v1/jobs").json()["items"]))
        began = time.monotonic()
        os.kill(server.pid, number)
        until(lambda: gone(server.pid))
        assert time.monotonic() - began < 15
        thread.join(PATIENCE_SECONDS)
        assert found[0].status_code == 503
        assert "is stopping" in found[0].json()["detail"]
        log = server.log.read_text()
    assert "the stop cut POST /v1/hosts/lab/plans/churn after" in log
    assert "the stop cut the job" in log
    assert "Traceback" not in log


def test_a_change_that_is_cut_is_whole_or_absent_and_does_not_hold_the_stop_up(tmp_path: Path) -> None:
    with service(tmp_path, 0) as server:
        prepared(server)
        url = f"{server.url}/v1/hosts/lab/tasks"
        thread, _ = in_background(lambda: httpx.post(url, json=LONG, timeout=PATIENCE_SECONDS))
        until(lambda: is_busy(server))
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: gone(server.pid))
        thread.join(PATIENCE_SECONDS)
        log = server.log.read_text()
    assert "the stop cut POST /v1/hosts/lab/tasks after" in log
    with service(tmp_path, 0) as again:
        pool = again.client.request("GET", "/v1/hosts/lab/hugepages/2048kB").json()
        assert pool["free_hugepages"] in {70_000, 5000}
        assert again.client.request("GET", "/v1/hosts/lab/audit").json()["ok"]


# -- a disk that is full or read-only ----------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A small disk for one test."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk takes root here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_changes_and_says_so_and_reads_go_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=16m") as disk, service(disk, 1) as server:
        server.client.create_host("lab", {"nodes": [{"memory": "1G"}]})
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        with httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
            url = "/v1/hosts/lab/hugepages/2048kB/nr_hugepages"
            statuses = [client.put(url, json={"count": n}).status_code for n in range(1, 60)]
            assert set(statuses) <= {200, 503}
            assert statuses[-1] == 503
            assert client.get("/v1/hosts/lab").headers["etag"].startswith(f'"{1 + statuses.count(200)}-')
            assert client.get("/v1/hosts/lab/audit").json()["ok"]
            until(lambda: client.get("/healthz/ready").status_code == 503)
            assert not client.get("/healthz/ready").json()["parts"]["database"]["ok"]
            assert client.get("/healthz/live").status_code == 200
            ballast.unlink()
            assert client.put(url, json={"count": 100}).status_code == 200
            until(lambda: client.get("/healthz/ready").status_code == 200)


def test_a_disk_that_is_read_only_is_said_in_a_sentence(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "ro,size=1m") as disk:
        url = f"sqlite:///{disk}/hugepool.db"
        command = [sys.executable, "-m", "hugepool", "serve", "--port", "0", "--database-url", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the database failed: ")
    assert done.stderr.count("\n") == 1
