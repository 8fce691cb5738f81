"""Requests that nobody would send: broken HTTP on a bare socket, and right requests with something wrong in them.

The service answers each or closes the connection; it never fails (500), never stalls, and its hosts stay whole.
"""

import json
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hugepool.client import Client, Unreachable
from tests.attack.kills import SMALL
from tests.attack.report import Report, attack
from tests.attack.victim import Victim, prepare

SECONDS = 20.0  # an answer that takes longer is a stall
BUG = 500
BROKEN = "broken"
MUTATED = 0.7  # of the documents that are sent; the others are right
BODIES: dict[str, list[Any]] = {
    "POST /v1/hosts": [
        {"name": "new", "spec": SMALL},
        {"name": "new", "fork_of": "lab"},
        {"name": "new", "files": {"/proc/meminfo": "MemTotal: 1 kB\n"}},
    ],
    "PATCH /v1/hosts/lab": [{"labels": {"rack": "7"}}],
    "PUT /v1/hosts/lab/hugepages/2048kB/nr_hugepages": [
        {"count": 5},
        {"count": 5, "node": 0},
        {"count": 5, "mempolicy": [0, 1]},
    ],
    "PUT /v1/hosts/lab/hugepages/2048kB/nr_overcommit_hugepages": [{"count": 3}],
    "POST /v1/hosts/lab/hugepages/1048576kB/demote": [{"count": 1}],
    "PUT /v1/hosts/lab/memory-blocks/2/state": [{"state": "offline"}, {"state": "online_movable"}],
    "POST /v1/hosts/lab/memory-blocks": [{"node": 0, "memory": "128M"}],
    "POST /v1/hosts/lab/contig-ranges": [
        {"nr_pages": 512, "node": 0},
        {"start_pfn": 65536, "end_pfn": 66048},
    ],
    "POST /v1/hosts/lab/tasks": [
        {"kind": "hugetlb", "count": 2, "touch": 1},
        {"kind": "anon", "memory": "4M"},
        {"kind": "kernel", "memory": "1M", "node": 0},
    ],
    "POST /v1/hosts/lab/tasks/1000/touch": [{"count": 1}],
    "PUT /v1/hosts/lab/deferred-frees": [{"mode": "manual"}],
    "PUT /v1/hosts/lab/faults/vmemmap-restore": [{"probability": 100, "times": 2}],
    "POST /v1/what-if": [
        {"host": "lab", "steps": [{"resize": {"size": "2048kB", "count": 5}}]},
        {
            "host": {"spec": SMALL},
            "steps": [{"offline": 2}],
            "variants": {"grid": {"steps.0.offline": [1, 2]}},
        },
    ],
    "POST /v1/hosts/lab/plans/max-pool": [{"keep": "64M"}],
    "POST /v1/hosts/lab/plans/savings": [{"count": 4}],
}
PATHS = (
    "/v1/hosts",
    "/v1/hosts/lab",
    "/v1/hosts/lab/hugepages",
    "/v1/hosts/lab/pages/1000",
    "/v1/hosts/lab/vmemmap/1",
    "/v1/hosts/lab/fs/proc/meminfo",
    "/v1/hosts/lab/fs/sys",
    "/v1/hosts/lab/events",
    "/v1/hosts/lab/history",
    "/v1/jobs",
    "/metrics",
    "/version",
    "/docs",
    "/openapi.json",
)
DELETED = (
    "/v1/hosts/lab/tasks/1000",
    "/v1/hosts/lab/contig-ranges/1",
    "/v1/hosts/lab/memory-blocks/9",
    "/v1/jobs/1",
)
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**32,
    2**53,
    2**63,
    2**64,
    -(2**63),
    10**400,
    0.5,
    1e308,
    "",
    "0",
    "-1",
    "1e9",
    "9" * 5000,
    "é",
    "\u0000",
    "\ud800",
    "../..",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"": None},
    [None] * 1000,
    {str(i): i for i in range(500)},
    "64G",
    "1K",
    "0x7fffffffffffffff",
    "NaN",
]
HEADERS = (
    ("If-Match", ['"1"', '"x"', "*", '"1", "2"', 'W/"1"', "", "\x01", '"' + "9" * 40 + '"']),
    ("If-None-Match", ['"1"', "*", "junk", '"1", junk']),
    ("Idempotency-Key", ["k", "k" * 255, "k" * 256, "k k", ""]),
    ("Accept", ["text/plain", "text/csv", "*/*", "x/y", ";;;", "text/csv;q=0.1, application/json;q=2"]),
    ("Prefer", ["respond-async", "respond-async; x=1", "wait=5"]),
    ("Last-Event-ID", ["1", "-1", "x"]),
    (
        "Content-Type",
        ["application/json", "application/json; charset=utf-16", "text/plain", "application/gzip", "a/b", ""],
    ),
)
GOOD = (
    b"POST /v1/hosts HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
LENGTHS = (b"-1", b"x", b"9" * 30, b"2\r\nContent-Length: 3")
MARKUP = ("..", "%2e%2e", "%00", "%ff", "%0d%0a", "a" * 5000, ";", "?", "//", "é", "lab%2f", "*")


def _mutated(value: Any, chance: random.Random) -> Any:
    """A document with one thing in it replaced, removed, repeated or nested."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(list(value))
        rest = {key: item for key, item in value.items() if key != name}
        how = chance.random()
        if how < 0.15:
            return rest
        if how < 0.25:
            return {**value, chance.choice(["extra", "", "é", "__proto__", "x" * 300]): chance.choice(ODD)}
        return {**rest, name: _mutated(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value * chance.choice([2, 100])
        return [*value[:at], _mutated(value[at], chance), *value[at + 1 :]]
    return chance.choice(ODD)


def _encoded(value: Any, chance: random.Random) -> bytes:
    """JSON, sometimes broken."""
    text = json.dumps(value)
    how = chance.random()
    if how < 0.04:
        text = text[: chance.randrange(len(text) + 1)]
    elif how < 0.06:
        text = "[" * chance.choice([100, 100_000]) + text
    elif how < 0.08:
        text = text.replace(":", chance.choice([",", "::", ": NaN,"]), 1)
    data = text.encode(chance.choice(["utf-8"] * 20 + ["utf-16", "utf-32", "latin-1"]), "replace")
    if chance.random() < 0.03:
        place = chance.randrange(len(data) + 1)
        data = data[:place] + chance.randbytes(3) + data[place:]
    return data


def structured(chance: random.Random) -> tuple[str, str, dict[str, str], bytes]:
    """A request that is nearly right: method, address, headers, body."""
    if chance.random() < 0.25:
        method, path, body = (
            chance.choice(["GET"] * 8 + ["HEAD", "OPTIONS", "TRACE"]),
            chance.choice(PATHS),
            b"",
        )
    elif chance.random() < 0.1:
        method, path, body = "DELETE", chance.choice(DELETED), b""
    else:
        method, path = chance.choice(list(BODIES)).split()
        document = chance.choice(BODIES[f"{method} {path}"])
        body = _encoded(_mutated(document, chance) if chance.random() < MUTATED else document, chance)
    if chance.random() < 0.15:
        parts = path.split("/")
        parts[chance.randrange(1, len(parts))] = chance.choice(MARKUP)
        path = "/".join(parts)
    if chance.random() < 0.2:
        name = chance.choice(["dry_run", "limit", "cursor", "after", "every", "fields", "bins", "start", "x"])
        value = chance.choice(["true", "1", "-1", "x", "", "9" * 30, "%00", "1s"])
        path += f"?{name}={value}"
    headers = {"Content-Type": "application/json"} if body else {}
    for name, values in HEADERS:
        if chance.random() < 0.07:
            headers[name] = chance.choice(values)
    return method, path, headers, body


def broken(chance: random.Random) -> bytes:
    """Bytes that are no request, or nearly one."""
    good = GOOD
    how = chance.randrange(9)
    if how == 0:
        return chance.randbytes(chance.choice([1, 100, 10_000]))
    if how == 1:
        return good.replace(b"Content-Length: 2", b"Content-Length: " + chance.choice(LENGTHS))
    if how == 2:
        chunked = good.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked\r\nContent-Length: 5")
        return chunked.replace(b"{}", b"zz\r\n{}")
    if how == 3:
        return good.replace(b"Content-Type", chance.randbytes(5) + b"\x00")
    if how == 4:
        return good.replace(b"HTTP/1.1", chance.choice([b"HTTP/9.9", b"HTTP/1.0", b"", b"ICY"]))
    if how == 5:
        return b"GET /" + b"a" * chance.choice([10_000, 200_000]) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    if how == 6:
        return (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n"
            + b"".join(b"X-%d: y\r\n" % i for i in range(5000))
            + b"\r\n"
        )
    if how == 7:
        return good + good[:40] + b"\r\n\r\n" + good
    place = chance.randrange(len(good))
    return good[:place] + chance.randbytes(chance.randrange(1, 9)) + good[place + 1 :]


def _send(address: tuple[str, int], data: bytes, *, ends: bool) -> int | None:
    """The status of the first answer; None when the connection was closed without one.  Raises TimeoutError.

    ``ends``: say that nothing more will come; a service takes that for a caller who has gone away.
    """
    with socket.create_connection(address, timeout=SECONDS) as connection, suppress(ConnectionError):
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(64)
        if answer.startswith(b"HTTP/1."):
            return int(answer.split()[1])
    return None


def _request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + body


def requests(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many requests, each with a few words about it; the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        if chance.random() < 0.1:
            data = broken(chance)
            yield BROKEN, data
        else:
            method, path, headers, body = structured(chance)
            yield f"{method} {path[:200]} {body[:200]!r}", _request(method, path, headers, body)


def run(count: int, seed: int = 1) -> Report:
    """Send so many requests."""
    prepare()
    with attack("fuzz") as report, tempfile.TemporaryDirectory(prefix="hugepool-fuzz-") as place:
        victim = Victim(Path(place), worker_poll_seconds=0.1)
        victim.start()
        try:
            victim.await_ready()
            with victim.client() as client:
                client.create_host("lab", SMALL)
                _send_all(report, victim, count, seed)
                _look(report, client)
        finally:
            victim.stop()
        report.expect("Traceback" not in victim.log(), f"the log: {victim.log()[-3000:]}")
    return report


def _send_all(report: Report, victim: Victim, count: int, seed: int) -> None:
    for number, (what, data) in enumerate(requests(count, seed)):
        began = time.monotonic()
        try:
            status = _send(("127.0.0.1", victim.port), data, ends=what == BROKEN)
        except OSError as error:
            report.failures.append(f"request {number}, {what}: {error}")
            continue
        report.count("requests")
        report.count(f"answered {status // 100}xx" if status else "connections closed")
        report.expect(status != BUG, f"request {number}, {what}: 500")
        report.expect(time.monotonic() - began < SECONDS, f"request {number}, {what}: a stall")


def _look(report: Report, client: Client) -> None:
    """Every host that is there keeps its laws."""
    try:
        for host in client.hosts():
            report.expect(client.audit(host["name"])["ok"], f"host {host['name']} breaks a law")
            report.count("hosts looked at")
    except Unreachable as error:
        report.failures.append(f"the service is gone: {error}")


def main(options: Any) -> Report:
    """For ``python -m tests.attack``."""
    return run(options.requests, options.seed)
