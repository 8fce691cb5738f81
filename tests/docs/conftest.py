"""One service for each file of tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.server import running


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    missing = [tool for tool in ("bash", "curl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the documentation's commands need {' and '.join(missing)}, which this machine has not")
    scratch: Path = tmp_path_factory.mktemp("service")
    with running(scratch) as url:
        yield url
