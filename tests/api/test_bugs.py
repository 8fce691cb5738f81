"""A bug is no race: a row that the database refuses is answered once, with 500, and its cause is in the log."""

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx

from hugepool.harness.server import serving

RULE = """CREATE TRIGGER broken BEFORE INSERT ON events
BEGIN SELECT RAISE(ABORT, 'NOT NULL constraint failed: events.made_up'); END"""


def test_a_row_that_the_database_refuses_is_a_bug_with_its_cause_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        server.client.create_host("lab", {"nodes": [{"memory": "1G"}]})
        with closing(sqlite3.connect(tmp_path / "hugepool.db", isolation_level=None, timeout=60)) as raw:
            raw.execute(RULE)
            url = "/v1/hosts/lab/hugepages/2048kB/nr_hugepages"
            answer = client.put(url, json={"count": 3})
            assert (answer.status_code, answer.json()["errno"]) == (500, "EIO")
            assert "made_up" not in answer.text
            assert client.get("/v1/hosts/lab").headers["etag"].startswith('"1-')
            raw.execute("DROP TRIGGER broken")
            assert client.put(url, json={"count": 3}).status_code == 200
            assert client.get("/v1/hosts/lab/audit").json()["ok"]
        log = server.log.read_text()
    assert "RowRefused: NOT NULL constraint failed: events.made_up" in log
    assert log.count("Exception in ASGI application") == 1
