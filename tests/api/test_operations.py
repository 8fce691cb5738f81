"""Health, version, documentation, and refusals of HTTP itself."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hugepool import openapi
from hugepool.mm.machine.profile import PROFILES
from hugepool.service import StoreFailure
from tests.api.conftest import NR, Api, problem_of, refused, serving


def test_a_running_service_is_live_and_ready(api: Api) -> None:
    assert api.get("/healthz/live").json() == {"status": "ok"}
    body = api.get("/healthz/ready").json()
    assert body["parts"].keys() == {"database", "migrations", "worker"}


def test_a_service_that_cannot_work_is_not_ready(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = api.app.state.service.ready()
    parts = replace(ready, database=replace(ready.database, ok=False, error="gone"))
    monkeypatch.setattr(api.app.state.service, "ready", lambda: parts)
    body = refused(api.get("/healthz/ready"), 503, "EAGAIN")
    assert body["parts"] == asdict(parts)
    assert "database" in body["detail"]
    assert api.get("/healthz/live").status_code == 200


def test_a_failing_database_is_reported_without_its_secrets(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise StoreFailure("postgresql://user:secret@db")

    monkeypatch.setattr(api.app.state.service, "show", fails)
    answer = api.get("/v1/hosts/any")
    refused(answer, 503, "EAGAIN")
    assert answer.headers["retry-after"] == "1"
    assert "secret" not in answer.text


def test_the_version_names_the_kernels(api: Api) -> None:
    body = api.get("/version").json()
    assert (body["name"], body["kernels"]) == ("hugepool", list(PROFILES))


def test_nothing_is_at_an_unknown_address(api: Api) -> None:
    for path in ("/v1", "/v1/hosts/", "/v2/hosts", "/v1/hosts/a/b/c", "/%F0%9F%98%80", "/" + "x" * 5000):
        refused(api.get(path), 404, "ENOENT")


def test_another_method_is_refused_with_those_there_are(api: Api) -> None:
    for method, path, allow in (
        ("PATCH", "/v1/hosts", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("PUT", "/v1/hosts/a", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("POST", "/v1/hosts/a/faults/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("BREW", "/version", "GET, HEAD, OPTIONS"),
    ):
        answer = api.ask(method, path)
        refused(answer, 405, "EOPNOTSUPP")
        assert answer.headers["allow"] == allow


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "x" * 500])
def test_a_body_that_is_not_sent_as_json_is_refused(api: Api, kind: str | None) -> None:
    host = api.boot()
    with host.nothing_changes():
        headers = {"Content-Type": kind} if kind else {}
        answer = host.ask("PUT", NR, content=json.dumps({"count": 4}), headers=headers)
        refused(answer, 415, "EINVAL")
        assert len(answer.content) < 1000


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"{} {}", b"[" * 100_000, b"9" * 5000, b'{"count": NaN}', b'{"count": 1e400}'],
)
def test_a_body_that_is_no_json_is_refused(api: Api, content: bytes) -> None:
    host = api.boot()
    with host.nothing_changes():
        answer = host.ask("PUT", NR, content=content, headers={"Content-Type": "application/json"})
        refused(answer, 422, "EINVAL")
        assert len(answer.content) < 1000


def test_the_docs_page_is_served_and_lists_every_operation_without_scripts(api: Api) -> None:
    page = api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    schema = api.get("/openapi.json").json()
    for path in schema["paths"]:
        assert path in page.text
    assert "SwaggerUIBundle" in page.text


def test_the_schema_is_whole(api: Api) -> None:
    schema = api.get("/openapi.json").json()
    operations = [op for methods in schema["paths"].values() for op in methods.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    for op in operations:
        assert op["tags"]
        assert op["description"]
        assert op["summary"]
        for status, answer in op["responses"].items():
            kinds = set(answer.get("content", {}))
            assert kinds == {"application/problem+json"} if int(status) >= 400 else True
        for body in op.get("requestBody", {}).get("content", {}).items():
            assert body[0] == "application/gzip" or body[1]["examples"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_the_stored_schema_is_the_served_one(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads((openapi.FOLDER / "openapi.json").read_text()) == api.get("/openapi.json").json()
    assert openapi.main(["--check"]) == 0


def test_a_stale_schema_is_reported_with_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "openapi"
    file = folder / "openapi.json"
    assert openapi.main([], folder) == 0
    assert openapi.main(["--check"], folder) == 0
    file.write_text(file.read_text().replace("Huge page pools", "x").replace("list_hosts", "list_guests"))
    assert openapi.main(["--check"], folder) == 1
    reported = capsys.readouterr().err
    assert '-        "operationId": "list_guests"' in reported
    assert '+        "operationId": "list_hosts"' in reported
    file.unlink()
    assert openapi.main(["--check"], folder) == 1
    openapi.main([], folder)
    (folder / "scenario.schema.json").write_text("{}\n")
    assert openapi.main(["--check"], folder) == 1
    assert "openapi/scenario.schema.json" in capsys.readouterr().err


def test_a_service_starts_again_on_the_same_database(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        host = api.boot()
        host.put(NR, {"count": 7})
        before = host.everything()
    with serving(tmp_path) as api:
        again = type(host)(api, host.name)
        assert again.everything() == before
        assert problem_of(api.get("/v1/hosts/x"))["status"] == 404
