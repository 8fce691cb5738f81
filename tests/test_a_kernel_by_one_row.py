"""A kernel version is one row: a made-up one, 6.12 in all but its name, works everywhere."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hugepool.fs.machine import read_machine
from hugepool.fs.render import listdir, render
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import CreateTask, SetMaxHugePages
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Call, Host
from hugepool.replay.run import Report, replay_trace
from hugepool.replay.trace import load
from tests.api.conftest import Api, refused, serving

pytest_plugins = ["pytester"]

MODEL, MADE_UP = "6.12", "6.12-made-up"
APP = Path(__file__).parents[1] / "app" / "hugepool"
TRACES = Path(__file__).parent / "data" / "traces"
RECORDING = TRACES / "a_runtime_sysctl-6.12.113-HVOon.json.gz"
ROW = f"""
from dataclasses import replace
from hugepool.mm.machine.profile import PROFILES
PROFILES["{MADE_UP}"] = replace(PROFILES["{MODEL}"], name="{MADE_UP}")
"""


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row, in this process."""
    monkeypatch.setitem(PROFILES, MADE_UP, replace(PROFILES[MODEL], name=MADE_UP))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The row, in every process that is started with this environment."""
    folder = tmp_path / "row"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(ROW)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}


@pytest.fixture
def api(row: None, tmp_path: Path) -> Iterator[Api]:
    """A service that was started with the row."""
    with serving(tmp_path) as found:
        yield found


def all_files(host: Host, folder: str = "/") -> dict[str, str]:
    """Every file that can be read, by path."""
    found: dict[str, str] = {}
    for entry in listdir(host, folder):
        path = f"{folder.rstrip('/')}/{entry.name}"
        if entry.type == "directory":
            found |= all_files(host, path)
        elif entry.type == "file" and entry.mode != "0200":
            found[path] = render(host, path)
    return found


def used(kernel: str) -> Host:
    """A booted host on which a pool has grown and a task has taken memory."""
    node = NodeSpec(memory_bytes=2 << 30, cpus=2)
    host = boot(HostSpec((node, node), kernel, "hugetlb_free_vmemmap=on hugepagesz=1G hugepages=1"), Call())
    for command in (SetMaxHugePages(9, 100), CreateTask(kind="anon", pages=3000)):
        assert apply(host, command).error is None
    return host


# -- the engine, its files, recordings ---------------------------------------------------------------------


@pytest.mark.usefixtures("row")
def test_it_boots_and_shows_every_file_as_its_model_does() -> None:
    files = all_files(used(MADE_UP))
    assert len(files) > 100
    assert files == all_files(used(MODEL))


@pytest.mark.usefixtures("row")
def test_it_imports_a_recorded_machine_as_its_model_does() -> None:
    recorded = load(RECORDING).files
    assert recorded is not None
    hosts = [restore_machine(read_machine(recorded, kernel), Call()) for kernel in (MADE_UP, MODEL)]
    assert hosts[0].kernel == MADE_UP
    assert all_files(hosts[0]) == all_files(hosts[1])


@pytest.mark.usefixtures("row")
def test_files_without_a_kernel_s_name_are_read_as_before() -> None:
    recorded = load(RECORDING).files
    assert recorded is not None
    for files in (recorded, recorded | {"/proc/version": "Linux version 6.12.113 (made up)\n"}):
        assert read_machine(files).kernel == MODEL


@pytest.mark.usefixtures("row")
def test_it_replays_a_recording_as_its_model_does() -> None:
    def replayed(kernel: str) -> Report:
        trace = load(RECORDING)
        trace.kernel = kernel
        return replay_trace(trace)

    report = replayed(MADE_UP)
    assert report.rows
    assert report.first_off is None
    assert report.rows == replayed(MODEL).rows


def test_no_other_place_knows_a_kernel_by_its_name() -> None:
    """The machine of the pytest plugin is a choice, and names one."""
    found = {
        str(file.relative_to(APP))
        for file in APP.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in PROFILES
    }
    assert found == {"mm/machine/profile.py", "pytest_plugin.py"}


# -- HTTP, command line, plugin ----------------------------------------------------------------------------


def test_the_api_boots_and_imports_it_and_names_it(api: Api) -> None:
    host = api.boot(kernel=MADE_UP)
    assert host.get()["kernel"] == MADE_UP
    host.put("hugepages/2048kB/nr_hugepages", {"count": 8})
    assert host.counters()["nr_hugepages"] == 8
    answer = api.post("/v1/hosts", {"name": "read", "files": load(RECORDING).files, "kernel": MADE_UP})
    assert answer.json()["kernel"] == MADE_UP
    assert MADE_UP in api.get("/version").json()["kernels"]
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    assert MADE_UP in schemas["SpecBody"]["properties"]["kernel"]["enum"]


def test_a_kernel_without_a_row_is_refused_and_those_with_one_are_named(api: Api) -> None:
    answer = api.post("/v1/hosts", {"name": "odd", "spec": {"kernel": "4.19", "nodes": [{"memory": "1G"}]}})
    problem = refused(answer, 422, "EINVAL")
    assert all(name in str(problem) for name in (*PROFILES, MADE_UP))
    assert api.get("/v1/hosts").json()["items"] == []


def hugepool(environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "hugepool", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_offers_it_and_asks_about_it(environment: dict[str, str], tmp_path: Path) -> None:
    assert MADE_UP in hugepool(environment, "import", "--help")
    scenario = tmp_path / "scenario.yaml"
    spec = f'{{kernel: "{MADE_UP}", nodes: [{{memory: 1G}}]}}'
    scenario.write_text(f"host: {{spec: {spec}}}\nsteps: [{{resize: {{count: 8}}}}]\n")
    assert "8" in hugepool(environment, "run", str(scenario))


def test_the_plugin_boots_it(
    environment: dict[str, str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.hugepool(kernel="{MADE_UP}", nodes=[{{"memory": "1G"}}])
        def test_kernel(hugepool_host):
            assert hugepool_host.client.host(hugepool_host.name)["kernel"] == "{MADE_UP}"
    """)
    others = ("cacheprovider", "hypothesispytest", "schemathesis")
    result = pytester.runpytest_subprocess(*(f"-pno:{name}" for name in others), timeout=60.0)
    result.assert_outcomes(passed=1)
