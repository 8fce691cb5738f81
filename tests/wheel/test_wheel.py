"""The wheel: what is in it, what each size of an installation can do, and how it gets on with other projects."""

import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from hugepool.harness.server import serving
from tests.wheel.environment import ROOT, Environment, build, run

PACKAGE = ROOT / "app" / "hugepool"
THEIRS = {
    "app/__init__.py": "",
    "app/main.py": "ANSWER = 'theirs'",
    "app/pytest_plugin.py": "raise RuntimeError('nobody asked for this module')",
    "tests/__init__.py": "",
    "tests/test_app.py": "from app.main import ANSWER\n\ndef test_answer():\n    assert ANSWER == 'theirs'\n",
    "tests/test_pool.py": """
from pathlib import Path

import app.main
import hugepool

NR = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

def test_pool(hugepool_host):
    hugepool_host.write(NR, "8\\n")
    assert hugepool_host.read(NR) == "8\\n"
    assert Path(app.main.__file__).parent == Path(__file__).parents[1] / "app"
    assert "site-packages" in hugepool.__file__
""",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture
def their_project(tmp_path: Path) -> Path:
    """A project of somebody else, whose package has the usual name ``app``."""
    for name, text in THEIRS.items():
        file = tmp_path / "theirs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "theirs"


def names(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def test_the_wheel_holds_the_package_its_migrations_and_nothing_else(wheel: Path) -> None:
    found = names(wheel)
    tops = {name.partition("/")[0] for name in found}
    assert {top.partition("-")[0] for top in tops} == {"hugepool"}
    assert sum(top.endswith(".dist-info") for top in tops) == len(tops) - 1 == 1
    code = {f"hugepool/{file.relative_to(PACKAGE)}" for file in PACKAGE.rglob("*.py")}
    versions = {f"hugepool/migrations/versions/{file.name}" for file in ROOT.glob("migrations/versions/*.py")}
    assert versions
    assert code | versions | {"hugepool/py.typed", "hugepool/migrations/env.py"} <= found


def test_the_wheel_says_what_it_is_and_under_which_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (path,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        found = message_from_bytes(opened.read(path))
        assert opened.read(path.replace("METADATA", "licenses/LICENSE")) == (ROOT / "LICENSE").read_bytes()
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload() == (ROOT / "README.md").read_text()
    assert found["Keywords"]
    assert found["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in found.get_all("Classifier", [])
    assert found.get_all("Provides-Extra") == ["mount", "postgres", "server"]


def test_a_wheel_from_the_source_archive_holds_the_same_files(wheel: Path, tmp_path: Path) -> None:
    archive = build(ROOT, "sdist", tmp_path / "sdist")
    run(["tar", "-xzf", str(archive)], tmp_path)
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    assert names(build(unpacked, "wheel", tmp_path / "dist")) == names(wheel)


def test_another_project_with_a_package_named_app_runs_its_tests_and_ours(
    wheel: Path, their_project: Path, tmp_path: Path
) -> None:
    theirs = Environment(tmp_path / "venv", wheel, extras=["server"], others=["pytest"])
    theirs.add_script("pytest", "pytest:console_main")
    for command in ([str(theirs.bin / "pytest")], [theirs.python, "-m", "pytest"]):
        without = run([*command, "-q", "tests/test_app.py"], their_project)
        assert "1 passed" in without.stdout
    both = run([str(theirs.bin / "pytest"), "-q"], their_project)
    assert "2 passed" in both.stdout


def test_the_small_size_has_the_client_and_says_what_the_command_line_needs(
    wheel: Path, tmp_path: Path
) -> None:
    small = Environment(tmp_path / "venv", wheel, others=["pytest"])
    small.add_script("pytest", "pytest:console_main")
    assert {path.name for path in small.site.iterdir()}.isdisjoint({"numpy", "fastapi", "pydantic", "typer"})
    with serving(tmp_path) as server:
        code = "import sys; from hugepool.client import Client; print(list(Client(sys.argv[1]).hosts()))"
        assert run([small.python, "-c", code, server.url], tmp_path).stdout == "[]\n"
    for command in ([str(small.bin / "hugepool")], [small.python, "-m", "hugepool", "serve"]):
        refused = run(command, tmp_path, status=1)
        assert refused.stderr == "hugepool: this command needs typer: pip install 'hugepool[server]'\n"
        assert refused.stdout == ""
    (tmp_path / "test_it.py").write_text("def test_pool(hugepool_host): pass\ndef test_other(): pass\n")
    tested = run([str(small.bin / "pytest"), "-q", "test_it.py"], tmp_path, status=1)
    assert "1 passed, 1 error" in tested.stdout
    assert "this command needs typer: pip install 'hugepool[server]'" in tested.stdout


def test_the_mount_extra_has_the_commands_that_are_clients_and_no_others(wheel: Path, tmp_path: Path) -> None:
    client = Environment(tmp_path / "venv", wheel, extras=["mount"])
    hugepool = str(client.bin / "hugepool")
    with serving(tmp_path) as server:
        server.client.create_host("lab", {"nodes": [{"memory": "256M"}]})
        settings = {"HUGEPOOL_URL": server.url}
        run([hugepool, "export", "lab", "tree"], tmp_path, settings)
        assert (tmp_path / "tree/proc/meminfo").read_text() == server.client.read_file("lab", "/proc/meminfo")
        run([hugepool, "import", "--name", "copy", "--root", "tree"], tmp_path, settings)
        assert server.client.host("copy")["memory"] == server.client.host("lab")["memory"]
    refused = run([hugepool, "serve"], tmp_path, status=1)
    assert refused.stderr.endswith(": pip install 'hugepool[server]'\n")
    assert refused.stderr.count("\n") == 1
