"""What schemathesis does not know by itself: how an archive is sent, and two checks of ours."""

import re
from typing import Any

import schemathesis

FORM = "hugepool-refused-form"  # `tests.attack.instrumented` sets it where a request was refused for its form alone
LARGE = re.compile(r"[0-9]{16}")
PROBLEM_JSON = "application/problem+json"


@schemathesis.serializer("application/gzip")
def as_bytes(context: Any, value: Any) -> bytes:
    """What stands for an archive: hardly ever one."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.check
def form_is_as_documented(ctx: Any, response: Any, case: Any) -> None:
    """A request that fits the document is never refused for its form.

    Numbers beyond 2**53 are left out: schemathesis compares them with the document's limits as floating-point numbers.
    """
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    positive = positive and not LARGE.search(str(response.request.url) + str(response.request.body))
    assert not (positive and FORM in response.headers), f"the form is refused: {response.text[:300]}"


@schemathesis.check
def refusals_are_problems(ctx: Any, response: Any, case: Any) -> None:
    """Every refusal is a problem document that repeats its status and names an errno."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == [PROBLEM_JSON], response.headers
        body = response.json()
        assert body["status"] == response.status_code
        assert body["errno"].startswith("E")
