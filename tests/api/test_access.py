"""Tokens over HTTP: who may do what, on every address there is, and what the events say of it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hugepool.access import Caller, Role, line_of, new_token
from tests.api.conftest import NR, Api, problem_of, serving

SPEC = {"nodes": [{"memory": "1G"}]}
CALLERS = {
    "reader": Caller("reader", Role.READ),
    "writer": Caller("writer", Role.WRITE),
    "web": Caller("web", Role.WRITE, "web-*"),
    "admin": Caller("admin", Role.ADMIN),
}
# An address that is new and changes something is for admins, until it is put here on purpose.
FOR_READERS = re.compile(r"/v1/what-if|/v1/(?:hosts/db|fleet)/plans/[a-z-]+|/v1/jobs/1")
FOR_WRITERS = ("/v1/hosts", "/v1/fleet")
ROAD_DECIDES = {"/v1/hosts", "/v1/hosts/import", "/v1/fleet"}  # they name hosts elsewhere


class Guarded:
    """An application that wants tokens, and one for each caller."""

    def __init__(self, api: Api, tokens: dict[str, str], file: Path) -> None:
        self.api, self.tokens, self.file = api, tokens, file

    def ask(self, who: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        return self.api.ask(method, path, headers=headers, **more)

    def boot(self, name: str, who: str = "admin") -> httpx.Response:
        return self.ask(who, "POST", "/v1/hosts", json={"name": name, "spec": SPEC})

    def events(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("reader", "GET", f"/v1/hosts/{name}/events").json()["items"]
        return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    tokens = {name: new_token() for name in CALLERS}
    file = folder / "tokens"
    file.write_text("\n".join(line_of(CALLERS[name], token) for name, token in tokens.items()))
    with serving(folder, tokens_file=file) as api:
        guarded = Guarded(api, tokens, file)
        for name in ("web-1", "db"):
            assert guarded.boot(name).status_code == 201
        yield guarded


def unauthorized(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].startswith('Bearer realm="hugepool"')
    body = problem_of(answer)
    assert body["errno"] == "EACCES"
    return body


def forbidden(answer: httpx.Response, needed: str) -> dict[str, Any]:
    assert answer.status_code == 403, answer.text
    assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
    body = problem_of(answer)
    assert body["errno"] == "EPERM"
    return body


def operations(guarded: Guarded) -> Iterator[tuple[str, str]]:
    """Every operation: its method, its address with ``db`` as the host."""
    schema = guarded.api.app.openapi()
    for path, found in schema["paths"].items():
        for method in found:
            yield method.upper(), re.sub(r"\{\w+\}", "1", path.replace("{host}", "db"))


def test_every_address_but_health_and_the_script_wants_a_token(guarded: Guarded) -> None:
    seen = 0
    for method, path in operations(guarded):
        answer = guarded.ask(None, method, path)
        if path.startswith(("/healthz/", "/collect.sh")):
            assert answer.status_code == 200
        else:
            assert "WWW-Authenticate" in answer.headers, path
            unauthorized(answer)
            seen += 1
    assert seen > 40
    for path in ("/docs", "/openapi.json", "/metrics", "/version", "/nosuch", "/v1/hosts/nosuch"):
        unauthorized(guarded.ask(None, "GET", path))
    assert guarded.ask("reader", "GET", "/v1/hosts").status_code == 200


def test_what_changes_something_is_refused_to_readers_and_to_who_may_not_change_the_host(
    guarded: Guarded,
) -> None:
    before = guarded.ask("reader", "GET", "/v1/hosts/db").json()
    seen = 0
    for method, path in operations(guarded):
        if method == "GET" or FOR_READERS.fullmatch(path):
            continue
        needed = "write" if path.startswith(FOR_WRITERS) else "admin"
        forbidden(guarded.ask("reader", method, path), needed)
        if path not in ROAD_DECIDES:
            forbidden(guarded.ask("web", method, path), needed)
            seen += 1
    assert seen > 15
    assert guarded.ask("reader", "GET", "/v1/hosts/db").json() == before


def test_a_writer_changes_the_hosts_that_its_pattern_names_and_makes_no_others(guarded: Guarded) -> None:
    assert guarded.ask("web", "PUT", f"/v1/hosts/web-1/{NR}", json={"count": 2}).status_code == 200
    body = forbidden(guarded.ask("web", "PUT", f"/v1/hosts/db/{NR}", json={"count": 2}), "write")
    assert (body["role"], body["hosts"], body["host"]) == ("write", "web-*", "db")
    forbidden(guarded.boot("mine", "web"), "write")
    forbidden(guarded.ask("web", "POST", "/v1/hosts", json={"name": "mine", "fork_of": "db"}), "write")
    answer = guarded.ask("web", "POST", "/v1/hosts/import?name=mine", content=b"x",
                         headers={"Content-Type": "application/gzip"})  # fmt: skip
    assert answer.status_code in (403, 422)  # no machine either
    assert guarded.ask("reader", "GET", "/v1/hosts/mine").status_code == 404
    assert guarded.boot("web-2", "web").status_code == 201
    assert guarded.ask("web", "DELETE", "/v1/hosts/web-2").status_code in (200, 204)
    assert guarded.ask("writer", "PUT", f"/v1/hosts/db/{NR}", json={"count": 0}).status_code == 200


def test_a_reader_may_ask_what_would_be(guarded: Guarded) -> None:
    before = guarded.ask("reader", "GET", "/v1/hosts/db").json()
    answer = guarded.ask("reader", "PUT", f"/v1/hosts/db/{NR}?dry_run=true", json={"count": 5})
    assert (answer.status_code, answer.json()["allocated"]) == (200, 5)
    question = {"host": "db", "steps": [{"resize": {"size": "2048kB", "count": 5}}]}
    assert guarded.ask("reader", "POST", "/v1/what-if", json=question).status_code == 200
    assert guarded.ask("reader", "POST", "/v1/hosts/db/plans/max-pool", json={}).status_code in (200, 422)
    made = guarded.ask("reader", "POST", "/v1/hosts?dry_run=true", json={"name": "maybe", "spec": SPEC})
    assert made.status_code == 201
    assert guarded.ask("reader", "GET", "/v1/hosts/maybe").status_code == 404
    assert guarded.ask("reader", "GET", "/v1/hosts/db").json() == before


@pytest.mark.parametrize(
    "query", ["dry_run=false", "dry_run=", "dry_run=true&dry_run=false", "Dry_run=true", "dry_run=2"]
)
def test_what_is_no_dry_run_is_refused_to_a_reader(guarded: Guarded, query: str) -> None:
    forbidden(guarded.ask("reader", "PUT", f"/v1/hosts/db/{NR}?{query}", json={"count": 5}), "write")


def test_a_dry_run_opens_no_address_that_has_none(guarded: Guarded) -> None:
    forbidden(guarded.ask("reader", "POST", "/v1/reset?dry_run=true"), "admin")
    forbidden(guarded.ask("writer", "DELETE", "/v1/anything"), "admin")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {token}",
        "{token}",
        "Bearer {token} {token}",
        "Bearer {token}x",
        "Bearer x{token}",
        "Bearer,{token}",
        "Bearer " + "x" * 5000,
    ],
)
def test_what_is_no_known_bearer_token_is_401(guarded: Guarded, header: str) -> None:
    given = header.format(token=guarded.tokens["admin"])
    answer = guarded.api.ask("GET", "/v1/hosts", headers={"Authorization": given})
    body = unauthorized(answer)
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert guarded.tokens["admin"] not in str(body)


def test_two_tokens_at_once_are_none(guarded: Guarded) -> None:
    both = [("Authorization", f"Bearer {guarded.tokens[who]}") for who in ("admin", "reader")]
    unauthorized(guarded.api.ask("GET", "/v1/hosts", headers=httpx.Headers(both)))


def test_the_word_bearer_is_the_same_in_capitals(guarded: Guarded) -> None:
    header = {"Authorization": f"BEARER {guarded.tokens['reader']}"}
    assert guarded.api.ask("GET", "/v1/hosts", headers=header).status_code == 200


def test_no_token_is_taken_from_the_address(guarded: Guarded) -> None:
    token = guarded.tokens["admin"]
    unauthorized(guarded.api.ask("GET", f"/v1/hosts?access_token={token}&token={token}"))


def test_the_events_of_a_host_say_who_changed_it(guarded: Guarded) -> None:
    assert guarded.boot("web-9", "web").status_code == 201
    assert guarded.ask("admin", "PUT", f"/v1/hosts/web-9/{NR}", json={"count": 3}).status_code == 200
    by = {event["revision"]: event["by"] for event in guarded.events("web-9")}
    assert by == {1: "web", 2: "admin"}
    fork = {"name": "web-10", "fork_of": "web-9"}
    assert guarded.ask("writer", "POST", "/v1/hosts", json=fork).status_code == 201
    assert {event["by"] for event in guarded.events("web-10")} == {"writer"}


def test_a_stored_answer_is_given_again_only_to_who_may_change_the_host(guarded: Guarded) -> None:
    key, body = {"Idempotency-Key": "once"}, {"count": 4}
    path = f"/v1/hosts/db/{NR}"
    assert guarded.ask("admin", "PUT", path, json=body, headers=key).status_code == 200
    again = guarded.ask("writer", "PUT", path, json=body, headers=key)
    assert (again.status_code, again.headers["idempotent-replay"]) == (200, "true")
    forbidden(guarded.ask("web", "PUT", path, json=body, headers=key), "write")
    forbidden(guarded.ask("reader", "PUT", path, json=body, headers=key), "write")
    made = {"name": "db-2", "spec": SPEC}
    assert (
        guarded.ask("admin", "POST", "/v1/hosts", json=made, headers={"Idempotency-Key": "made"}).status_code
        == 201
    )
    forbidden(
        guarded.ask("web", "POST", "/v1/hosts", json=made, headers={"Idempotency-Key": "made"}), "write"
    )


def test_a_token_that_is_taken_out_of_the_file_is_not_known_any_more(guarded: Guarded) -> None:
    text, extra = guarded.file.read_text(), new_token()
    guarded.tokens["extra"] = extra
    guarded.file.write_text(f"{text}\n{line_of(Caller('extra', Role.READ), extra)}")
    guarded.api.app.state.tokens.reload()
    assert guarded.ask("extra", "GET", "/v1/hosts").status_code == 200
    guarded.file.write_text(text)
    deadline = time.monotonic() + 30
    while guarded.ask("extra", "GET", "/v1/hosts").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert guarded.ask("reader", "GET", "/v1/hosts").status_code == 200


def test_without_a_file_everybody_may_do_everything_and_nobody_is_named(api: Api) -> None:
    host = api.boot()
    assert host.put(NR, {"count": 1}).status_code == 200
    assert {event["by"] for event in host.get("events")["items"]} == {None}
    sent = api.ask("GET", "/v1/hosts", headers={"Authorization": "Bearer whatever"})
    assert sent.status_code == 200
