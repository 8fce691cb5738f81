"""Hosts that a service begins with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hugepool.harness.child import ChildFailed
from hugepool.harness.server import serving
from hugepool.initial import WrongInitFolder, make_hosts
from hugepool.service import Service
from hugepool.settings import Settings

SPEC = {"nodes": [{"memory": "1G", "cpus": 1}]}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(Settings(database_url=f"sqlite:///{tmp_path}/hugepool.db"))
    found.start()
    yield found
    found.close()


def names(service: Service) -> list[str]:
    return [row.name for row in service.list(100)[0]]


def folder_with(path: Path, **files: Any) -> Path:
    folder = path / "init"
    folder.mkdir()
    for name, document in files.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / f"{name}.json").write_text(text)
    return folder


def test_files_are_hosts_or_lists_of_them_and_a_second_start_leaves_them(
    service: Service, tmp_path: Path
) -> None:
    copies = [{"name": f"copy-{i}", "fork_of": "lab", "labels": {"rack": str(i)}} for i in range(2)]
    stuck = {"name": "stuck", "state": "surplus-stuck"}
    folder = folder_with(tmp_path, a={"name": "lab", "spec": SPEC}, b=[*copies, stuck])
    (folder / "notes.txt").write_text("not a host")
    assert make_hosts(service, folder) == ["lab", "copy-0", "copy-1", "stuck"]
    assert names(service) == ["copy-0", "copy-1", "lab", "stuck"]
    assert make_hosts(service, folder) == []
    assert make_hosts(service, None) == []


WRONG = {
    "no JSON": ("{", "b.json: is not JSON"),
    "a field": ({"name": "x", "spec": {"nodes": [{"memory": "4Q"}]}}, "b.json: spec.nodes[0].memory: '4Q'"),
    "no host": ([3], "b.json: "),
    "nothing to copy": ({"name": "x", "fork_of": "nosuch"}, "b.json: host 'x': no host 'nosuch'"),
}


@pytest.mark.parametrize(("document", "why"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_is_named_with_the_reason(
    service: Service, tmp_path: Path, document: Any, why: str
) -> None:
    folder = folder_with(tmp_path, a={"name": "lab", "spec": SPEC}, b=document)
    with pytest.raises(WrongInitFolder) as wrong:
        make_hosts(service, folder)
    assert why in str(wrong.value)
    assert names(service) == ["lab"]


def test_a_service_is_ready_with_its_hosts_or_says_in_a_line_why_not(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, a={"name": "lab", "spec": SPEC})
    settings = {"HUGEPOOL_INIT_DIR": str(folder)}
    with serving(tmp_path, settings=settings) as server:
        assert [host["name"] for host in server.client.hosts()] == ["lab"]
    (folder / "b.json").write_text("[]]")
    with (
        pytest.raises(ChildFailed, match=r"b\.json: is not JSON") as failed,
        serving(tmp_path, settings=settings),
    ):
        pass
    assert "Traceback" not in str(failed.value)
