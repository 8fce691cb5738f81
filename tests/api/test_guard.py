"""Browsers and neighbours: a foreign page, a foreign name, a form; and what every answer tells a browser."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.api.guard import reaches_beyond
from tests.api.conftest import NR, Api, HostApi, refused, serving

OURS = "http://localhost"


LOOPBACK = ("localhost", "LOCALHOST:8000", "localhost.", "app.localhost", "127.0.0.1:9", "127.9.9.9", "[::1]:80",
            "[::ffff:127.0.0.1]")  # fmt: skip
STRANGE = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[2001:db8::1]", "", "@",
           "localhost@evil.example")  # fmt: skip


@pytest.mark.parametrize("name", LOOPBACK)
def test_loopback_names_are_ours(api: Api, name: str) -> None:
    assert api.get("/version", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_that_is_not_ours_gets_nothing(api: Api, host: HostApi, name: str) -> None:
    with host.nothing_changes():
        for method, path in (("GET", "/version"), ("PUT", f"{host.path}/{NR}"), ("GET", "/healthz/live")):
            answer = api.ask(method, path, headers={"Host": name}, json={"count": 3})
            body = refused(answer, 421, "EHOSTUNREACH")
            assert "HUGEPOOL_ALLOWED_HOSTS" in body["detail"]


def test_names_that_are_set_and_the_address_listened_on_are_ours(tmp_path: Path) -> None:
    with serving(tmp_path, allowed_hosts="pool.example, *.lab.example", host="0.0.0.0") as api:
        for name in ("pool.example", "a.lab.example:8000", "0.0.0.0"):
            assert api.get("/version", headers={"Host": name}).status_code == 200
        for name in ("lab.example", "x.pool.example"):
            refused(api.get("/version", headers={"Host": name}), 421, "EHOSTUNREACH")


FOREIGN: list[dict[str, str]] = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_changes_nothing(api: Api, host: HostApi, headers: dict[str, str]) -> None:
    with host.nothing_changes():
        for method, path, body in (
            ("PUT", f"{host.path}/{NR}", {"count": 3}),
            ("POST", f"{host.path}/tasks", {"kind": "kernel", "memory": "1M"}),
            ("DELETE", host.path, None),
            ("PUT", f"{host.path}/fs/proc/sys/vm/nr_hugepages", None),
        ):
            refused(api.ask(method, path, json=body, headers=headers), 403, "EACCES")


def test_a_page_of_this_service_and_a_program_may_change_things(host: HostApi) -> None:
    for headers in (
        {"Origin": OURS, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://localhost"},  # a proxy in front speaks TLS
        {"Origin": f"{OURS}:80"},
        {"Sec-Fetch-Site": "none"},
        {},
    ):
        assert host.put(NR, {"count": 3}, headers=headers).status_code == 200


def test_a_foreign_page_may_be_answered_what_it_cannot_read(api: Api) -> None:
    answer = api.get("/version", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_only_origins_that_are_set_may_read_and_change(tmp_path: Path) -> None:
    ops = "https://ops.example"
    with serving(tmp_path, cors_origins=ops) as api:
        host = api.boot()
        asked = {"Origin": ops, "Access-Control-Request-Method": "PUT"}
        assert (
            api.ask("OPTIONS", f"{host.path}/{NR}", headers=asked).headers["access-control-allow-origin"]
            == ops
        )
        done = host.put(NR, {"count": 3}, headers={"Origin": ops, "Sec-Fetch-Site": "cross-site"})
        assert done.status_code == 200
        assert done.headers["access-control-allow-origin"] == ops
        assert "ETag" in done.headers["access-control-expose-headers"]
        refused(host.put(NR, {"count": 4}, headers={"Origin": "http://evil.example"}), 403, "EACCES")
        evil = asked | {"Origin": "http://evil.example"}
        other = api.portal.call(lambda: api.client.options(f"{host.path}/{NR}", headers=evil))
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "TEXT/PLAIN"],
)
def test_what_a_form_can_post_is_not_read(api: Api, host: HostApi, kind: str) -> None:
    with host.nothing_changes():
        for path in (f"{host.path}/tasks", "/v1/hosts/import?name=x", f"{host.path}/deferred-frees/drain"):
            answer = api.ask(
                "POST", path, content=b'{"kind":"kernel","memory":"1M"}', headers={"Content-Type": kind}
            )
            refused(answer, 415, "EINVAL")


def test_a_put_as_curl_sends_it_is_write(host: HostApi) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    path = "fs/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    assert host.ask("PUT", path, content=b"5", headers=headers).status_code == 204
    assert host.counters()["nr_hugepages"] == 5


def every_kind(api: Api, host: HostApi) -> list[httpx.Response]:
    return [
        api.get("/version"),
        api.get("/docs"),
        host.ask("GET", "fs/proc/meminfo"),
        api.get("/no/such/place"),
        host.put(NR, {"count": "x"}),
        api.get("/version", headers={"Host": "evil.example"}),
    ]


def test_every_answer_tells_a_browser_to_be_careful(api: Api, host: HostApi) -> None:
    for answer in every_kind(api, host):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "default-src 'none'" in policy[0]
        assert "frame-ancestors 'none'" in policy[0]


@pytest.mark.parametrize(
    ("host", "beyond"),
    [("127.0.0.1", False), ("127.1.2.3", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("::", True),
     ("10.1.2.3", True), ("pool.example", True), ("", True)],
)  # fmt: skip
def test_listening_beyond_this_machine_is_noticed(host: str, beyond: Any) -> None:
    assert reaches_beyond(host) == beyond
