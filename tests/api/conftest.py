"""A service on a real SQLite file, asked over ASGI from plain functions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from hugepool.main import create_app
from hugepool.settings import Settings
from tests.api.closed import ClosedSchema
from tests.conftest import NewDatabase

NR = "hugepages/2048kB/nr_hugepages"
FIXED = {"type", "title", "status", "detail", "instance", "errno", "errno_number"}
OPTIMIZED = "hugetlb_free_vmemmap=on"


class Api:
    """Asks an application, and checks what is true of every answer."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient, app: Any) -> None:
        self.portal, self.client, self.app = portal, client, app
        self.declared = ClosedSchema(app.openapi())
        self._names = count()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self.client.request(method, path, **more)

        answer = self.portal.call(send)
        if answer.status_code >= 400:
            problem_of(answer)
        self.declared.check(answer)
        return answer

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def put(self, path: str, json: Any, **more: Any) -> httpx.Response:
        return self.ask("PUT", path, json=json, **more)

    def post(self, path: str, json: Any, **more: Any) -> httpx.Response:
        return self.ask("POST", path, json=json, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("DELETE", path, **more)

    def boot(self, *nodes: str, **spec: Any) -> "HostApi":
        """A new host; one node of 1 GiB that frees vmemmap unless said otherwise."""
        name = f"h{next(self._names)}"
        body = {"cmdline": OPTIMIZED, "nodes": [{"memory": size} for size in nodes or ("1G",)], **spec}
        answer = self.post("/v1/hosts", {"name": name, "spec": body})
        assert answer.status_code == 201, answer.text
        return HostApi(self, name)


class HostApi:
    """Asks about one host."""

    def __init__(self, api: Api, name: str) -> None:
        self.api, self.name, self.path = api, name, f"/v1/hosts/{name}"

    def ask(self, method: str, path: str = "", **more: Any) -> httpx.Response:
        return self.api.ask(method, f"{self.path}/{path}".rstrip("/"), **more)

    def get(self, path: str = "", **more: Any) -> Any:
        answer = self.ask("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, path: str, json: Any, **more: Any) -> httpx.Response:
        return self.ask("PUT", path, json=json, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return self.ask("POST", path, json=json, **more)

    def delete(self, path: str = "", **more: Any) -> httpx.Response:
        return self.ask("DELETE", path, **more)

    def counters(self, size: str = "2048kB") -> dict[str, Any]:
        """The counters of a pool."""
        found: dict[str, Any] = self.get(f"hugepages/{size}")
        return found

    def everything(self) -> tuple[Any, ...]:
        """All that could have changed."""
        answer = self.ask("GET")
        events, tasks = self.ask("GET", "events", params={"limit": 1000}), self.ask("GET", "tasks")
        return answer.headers["etag"], answer.json(), events.json(), tasks.json()

    @contextmanager
    def nothing_changes(self) -> Iterator[None]:
        """The host is the same afterwards, down to its ETag."""
        before = self.everything()
        yield
        assert self.everything() == before


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of a refusal, checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= FIXED
    assert body["status"] == answer.status_code
    reason = body.get("reason")
    assert body["type"] == (f"/problems/{reason}" if reason else f"urn:hugepool:errno:{body['errno']}")
    assert body["title"] == os.strerror(body["errno_number"])
    asked = unquote(answer.request.url.raw_path.decode().partition("?")[0])
    assert asked.startswith(unquote(body["instance"]))
    assert len(body["detail"]) < 2100
    assert "Traceback" not in answer.text
    return body


def refused(answer: httpx.Response, status: int, errno: str) -> dict[str, Any]:
    """The problem document of a refusal that is expected."""
    assert answer.status_code == status, answer.text
    body = problem_of(answer)
    assert body["errno"] == errno
    return body


@contextmanager
def serving(folder: Path, database_url: str | None = None, **settings: Any) -> Iterator[Api]:
    """An application that no other test uses, from start to stop; on a SQLite file unless said otherwise."""
    settings = {"what_if_wait_seconds": 120.0, **settings}  # a slow machine answers late, but with an answer
    app = create_app(Settings(database_url=database_url or f"sqlite:///{folder}/hugepool.db", **settings))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    with start_blocking_portal() as portal:
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        with portal.wrap_async_context_manager(app.router.lifespan_context(app)):
            yield Api(portal, client, app)
        portal.call(client.aclose)


@pytest.fixture(scope="session")
def api(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One application for all tests that bring their own hosts."""
    folder = tmp_path_factory.mktemp("api")
    with serving(folder, new_database(folder)) as found:
        yield found


@pytest.fixture
def fresh_api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    """An application without hosts."""
    with serving(tmp_path, database_url) as found:
        yield found


@pytest.fixture
def host(api: Api) -> HostApi:
    """A new host of 1 GiB that frees vmemmap."""
    return api.boot()


@pytest.fixture
def numa(api: Api) -> HostApi:
    """A new host of two nodes of 1 GiB."""
    return api.boot("1G", "1G")
