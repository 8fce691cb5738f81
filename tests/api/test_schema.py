"""Generated requests, right and wrong ones: nothing fails, and every answer is as /openapi.json says."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hugepool.main import create_app
from hugepool.settings import Settings
from tests.api.conftest import NR, Api, HostApi, problem_of


def not_a_bug(_context: Any, response: Any, _case: Case[Any]) -> None:
    """Of the statuses above 500, 507 is ENOMEM and 503 asks to come again: answers like others."""
    assert response.status_code != 500, response.text


CHECKS: Any = [
    not_a_bug,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(
    create_app(Settings(database_url="sqlite:///never-opened.db")).openapi()
)
ENDLESS = {"stream_events", "stream_changes"}  # tested with a real socket
GONE_AFTERWARDS = {"delete_host"}
MAKE_HOSTS = {"create_host", "create_fleet"}  # huge ones, which later questions would be about
EXAMPLES = 15


@schemathesis.serializer("application/gzip")
def as_bytes(context: Any, value: Any) -> bytes:
    """What stands for an archive: hardly ever one."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def operations() -> Iterator[Any]:
    """All operations that answer and end, to be asked rightly; and wrongly, where anything can be wrong."""
    for result in SCHEMA.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        raw = operation.definition.raw
        if raw["operationId"] not in ENDLESS:
            yield pytest.param(operation, GenerationMode.POSITIVE, id=f"{raw['operationId']}-right")
            if raw.get("parameters") or raw.get("requestBody"):
                yield pytest.param(operation, GenerationMode.NEGATIVE, id=f"{raw['operationId']}-wrong")


def send(api: Api, case: Case[Any]) -> httpx.Response:
    """A generated request, over ASGI."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://127.0.0.1")).prepare()
    headers = [(str(name), value) for name, value in prepared.headers.items()]
    sent = {k.encode("latin-1"): v if isinstance(v, bytes) else str(v).encode("latin-1") for k, v in headers}
    return api.ask(str(prepared.method), str(prepared.url), content=prepared.body, headers=sent)


@pytest.fixture(scope="module")
def used(api: Api) -> HostApi:
    """A host on which something has happened."""
    host = api.boot("1G", "1G")
    host.put(NR, {"count": 60})
    host.post("tasks", {"kind": "hugetlb", "count": 4, "touch": 2})
    return host


@pytest.mark.parametrize(("operation", "mode"), list(operations()))
def test_generated_requests_are_answered_as_documented(
    api: Api, used: HostApi, operation: Any, mode: GenerationMode
) -> None:
    name = operation.definition.raw["operationId"]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def check(case: Case[Any], known: bool) -> None:
        if known and "host" in case.path_parameters and name not in GONE_AFTERWARDS:
            case.path_parameters["host"] = used.name
        if name in MAKE_HOSTS and isinstance(case.body, dict):
            case.query["dry_run"] = "true"
        if name in {"plan_churn", "plan_fleet_churn"} and isinstance(case.body, dict):
            case.body |= {"rounds": 1, "seeds": 1} if mode is GenerationMode.POSITIVE else {}
        answer = send(api, case)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            problem_of(answer)

    check()
