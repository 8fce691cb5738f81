"""Bodies that would stall or fell the service are refused in a sentence, soon, and nothing changes."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hugepool.api.middleware import MAX_VALUES
from tests.api.conftest import NR, Api, HostApi, problem_of, refused, serving

JSON = {"Content-Type": "application/json"}
MIB = 1 << 20
SOON_SECONDS = 5.0  # on a loaded machine; without limits these took minutes
BOUND_BYTES = 100 * MIB


def of_size(size: int, form: Callable[[bytes], bytes], fill: bytes) -> bytes:
    """A body of about ``size`` bytes whose inside is ``fill`` again and again."""
    return form(fill * (size // len(fill)))


def fields(count: int) -> bytes:
    """Unknown fields of an object."""
    return b",".join(b'"k%d":0' % i for i in range(count))


HOSTILE: dict[str, tuple[str, bytes]] = {
    "nodes": ("/v1/hosts", of_size(3 * MIB // 10, lambda x: b'{"name":"x","spec":{"nodes":[' + x + b"0]}}", b"0,")),
    "keys": ("/v1/hosts", b'{"name":"x",' + fields(200_000) + b"}"),
    "files": ("/v1/hosts", b'{"name":"x","files":{' + b",".join(b'"/%d":0' % i for i in range(90_000)) + b"}}"),
    "more files": ("/v1/hosts", b'{"name":"x","files":{' + b",".join(b'"/%d":0' % i for i in range(150_000)) + b"}}"),
    "policy": (
        "/v1/hosts/lab/tasks",
        b'{"kind":"kernel","memory":1,"policy":{"bind":[' + b'"a",' * 100_000 + b'"a"]}}',
    ),
    "steps": ("/v1/what-if", b'{"host":"lab","steps":[' + b"{}," * 50_000 + b"{}]}"),
    "keys of steps": (
        "/v1/what-if",
        b'{"host":"lab","steps":[' + b",".join([b"{" + fields(90) + b"}"] * 900) + b"]}",
    ),
    "rows": (
        "/v1/what-if",
        b'{"host":"lab","steps":[{"offline":1}],"variants":{"list":[' + b'{"":1},' * 9_000 + b"{}]}}",
    ),
    "blocks": ("/v1/hosts/lab/plans/offline", b'{"blocks":[' + b'"a",' * 90_000 + b"1]}"),
    "depth": ("/v1/hosts", b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "number": ("/v1/hosts", b'{"name":' + b"9" * MIB + b"}"),
    "text": ("/v1/hosts", b'{"name":"' + b"\\ud800" * 100_000 + b'"}'),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostApi]:
    """A host named lab."""
    with serving(tmp_path_factory.mktemp("limits")) as api:
        api.post("/v1/hosts", {"name": "lab", "spec": {"nodes": [{"memory": "1G"}]}})
        yield HostApi(api, "lab")


@pytest.mark.parametrize("word", HOSTILE)
def test_a_body_full_of_mistakes_is_refused_soon_and_in_little_memory(lab: HostApi, word: str) -> None:
    path, body = HOSTILE[word]
    assert len(body) < 4 * MIB
    with lab.nothing_changes():
        tracemalloc.start()
        began = time.monotonic()
        answer = lab.api.ask("POST", path, content=body, headers=JSON)
        took = time.monotonic() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert answer.status_code in {413, 422}
        reported = problem_of(answer)
        assert len(answer.content) < 20_000
        assert len(reported.get("errors", [])) <= 20
        assert took < SOON_SECONDS * 4  # tracing makes it slower
        assert peak < BOUND_BYTES
    assert lab.api.get("/v1/hosts").json()["items"][0]["name"] == "lab"


def test_as_many_mistakes_as_a_person_makes_are_listed(lab: HostApi) -> None:
    answer = lab.post("tasks", {"kind": "kernel", "memory": "x", "nod": 1, "policy": {"bind": ["a", "b"]}})
    fields = {error["field"].rpartition(".")[2] for error in refused(answer, 422, "EINVAL")["errors"]}
    assert fields >= {"memory", "nod", "bind[0]", "bind[1]"}


@pytest.mark.parametrize(
    ("method", "path", "large"),
    [
        ("PUT", f"/v1/hosts/lab/{NR}", False),
        ("POST", "/v1/hosts/lab/tasks", False),
        ("PUT", "/v1/hosts/lab/fs/proc/sys/vm/nr_hugepages", False),
        ("POST", "/v1/hosts", True),
        ("POST", "/v1/what-if", True),
        ("POST", "/v1/hosts/import?name=x", True),
    ],
)
def test_json_is_read_up_to_4_mib_and_what_may_hold_files_up_to_64(
    lab: HostApi, method: str, path: str, large: bool
) -> None:
    with lab.nothing_changes():
        for chunked in (False, True):
            body = b'"' + b"x" * (4 * MIB) + b'"'

            async def parts(body: bytes = body) -> AsyncIterator[bytes]:
                for at in range(0, len(body), MIB):
                    yield body[at : at + MIB]

            answer = lab.api.ask(method, path, content=parts() if chunked else body, headers=JSON)
            if large:
                assert answer.status_code == 422
            else:
                refused(answer, 413, "EFBIG")
                assert answer.headers["connection"] == "close"


def test_values_are_counted_before_they_are_read(lab: HostApi) -> None:
    for path in ("/v1/hosts", "/v1/what-if", "/v1/hosts/lab/tasks"):
        body = b"[" + b"0," * MAX_VALUES + b"0]"
        reported = refused(lab.api.ask("POST", path, content=body, headers=JSON), 413, "EFBIG")
        assert str(MAX_VALUES) in reported["detail"]


def test_a_machine_of_files_may_be_larger_than_other_json(lab: HostApi) -> None:
    files = {"/proc/meminfo": "x" * (5 * MIB)}
    answer = lab.api.ask(
        "POST", "/v1/hosts", content=json.dumps({"name": "big", "files": files}), headers=JSON
    )
    assert "meminfo" in refused(answer, 422, "EINVAL")["detail"]


# -- time and number ---------------------------------------------------------------------------------------


def test_a_body_that_comes_too_slowly_is_given_up(tmp_path: Path) -> None:
    with serving(tmp_path, body_seconds=0.2) as api:
        host = api.boot()
        ended = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b'{"count"'
            await ended.wait()
            yield b": 3}"

        with host.nothing_changes():
            answer = host.ask("PUT", NR, content=slow(), headers=JSON)
            refused(answer, 408, "ETIMEDOUT")
            assert answer.headers["connection"] == "close"
        assert host.put(NR, {"count": 3}).status_code == 200


def test_all_bodies_together_are_bounded_and_the_room_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path, bodies_bytes=1000) as api:
        host = api.boot()
        body = json.dumps({"count": 3}) + " " * 600

        async def together() -> list[Any]:
            began = asyncio.Event()

            async def first() -> AsyncIterator[bytes]:
                yield body.encode()[:-1]
                began.set()
                await second_done.wait()
                yield b" "

            second_done = asyncio.Event()
            url = f"{host.path}/{NR}"
            holding = asyncio.create_task(api.client.put(url, content=first(), headers=JSON))
            await began.wait()
            refused_one = await api.client.put(url, content=body, headers=JSON)
            second_done.set()
            return [refused_one, await holding]

        too_much, fitting = api.portal.call(together)
        refused(too_much, 503, "EAGAIN")
        assert too_much.headers["retry-after"]
        assert fitting.status_code == 200
        for _ in range(3):
            assert host.ask("PUT", NR, content=body, headers=JSON).status_code == 200


# -- the document ------------------------------------------------------------------------------------------


def parts_of(schema: Any, known: dict[str, Any], seen: set[str]) -> Iterator[dict[str, Any]]:
    """A schema and all it is made of."""
    if isinstance(schema, list):
        for part in schema:
            yield from parts_of(part, known, seen)
    elif isinstance(schema, dict):
        if (ref := schema.get("$ref")) is not None:
            if ref not in seen:
                seen.add(ref)
                yield from parts_of(known[ref.rpartition("/")[2]], known, seen)
            return
        yield schema
        for key, part in schema.items():
            if key not in {"example", "examples", "default", "enum", "const"}:
                yield from parts_of(part, known, seen)


def test_every_list_and_every_open_object_of_a_body_has_a_limit(api: Api) -> None:
    document = api.get("/openapi.json").json()
    known, unbounded, seen = document["components"]["schemas"], [], set[str]()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            for part in parts_of([media.get("schema", {}) for media in content.values()], known, seen):
                list_without = part.get("type") == "array" and part.get("items") and "maxItems" not in part
                open_object = (
                    isinstance(part.get("additionalProperties"), dict) and "maxProperties" not in part
                )
                if list_without or open_object:
                    unbounded.append((method, path, part))
    assert seen
    assert not unbounded
