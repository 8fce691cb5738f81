"""The command line's twins of what HTTP answers, against a real service; the man page; the help of serve."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hugepool.cli import app
from hugepool.client import Client
from hugepool.harness.server import serving
from hugepool.settings import Settings

SPEC = {"cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "1G"}, {"memory": "1G"}]}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with one host, whose pool has 20 pages."""
    with serving(tmp_path_factory.mktemp("twins"), 0, {}) as server:
        with Client(server.url) as client:
            client.create_host("lab", SPEC)
            client.resize("lab", "2048kB", 20)
        yield server.url


def hugepool(url: str, *arguments: object) -> Result:
    """Run a command."""
    return CliRunner().invoke(
        app, [str(word) for word in arguments], env={"HUGEPOOL_URL": url}, catch_exceptions=False
    )


def rows(done: Result) -> list[list[str]]:
    """What it printed, by lines and words."""
    return [line.split() for line in done.stdout.splitlines()]


def revision(url: str) -> int:
    """How often the host was changed."""
    with Client(url) as client:
        return client.revision("lab")


def test_hosts_are_listed_with_their_pools(url: str) -> None:
    head, row = rows(hugepool(url, "hosts", "--name", "la*"))
    assert head[:2] == ["host", "kernel"]
    assert row[:2] == ["lab", "5.14"]
    assert row[-5:] == ["2048kB", "20", "20", "0", "0"]
    assert json.loads(hugepool(url, "hosts", "--json").stdout)[0]["name"] == "lab"
    refused = hugepool(url, "hosts", "--state", "well")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("refused: ")


def test_a_host_is_shown_with_its_pools_by_node(url: str) -> None:
    done = hugepool(url, "show", "lab")
    assert ["name", "lab"] in rows(done)
    assert ["2048kB", "1", "10", "10", "0"] in rows(done)
    assert json.loads(hugepool(url, "show", "lab", "--json").stdout)["name"] == "lab"


def test_a_pool_is_resized_and_what_fell_short_is_explained(url: str) -> None:
    done = hugepool(url, "resize", "lab", 24)
    assert done.exit_code == 0
    assert done.stdout.startswith("the pool of 2048kB pages has 24 (20 before): 4 allocated")
    before = revision(url)
    short = hugepool(url, "resize", "lab", 100_000, "--dry-run")
    assert short.exit_code == 1
    assert "100000 huge pages of 2048kB were asked for, and there " in short.stdout
    assert "what helps: " in short.stdout
    assert revision(url) == before
    assert hugepool(url, "resize", "lab", 20, "--json").exit_code == 0


def test_a_refused_shrink_says_why_and_what_was_done(url: str) -> None:
    hugepool(url, "fork", "lab", "stuck")
    with Client(url) as client:
        client.set_fault("stuck", "vmemmap-restore", {})
    done = hugepool(url, "resize", "stuck", 0)
    assert done.exit_code == 1
    assert "20 surplus" in done.stdout
    assert "what helps: Disarm the fault at vmemmap-restore" in done.stdout
    assert hugepool(url, "rm", "stuck").stdout == "1 deleted\n"


def test_a_pool_is_explained(url: str) -> None:
    assert "The pool has 20 huge pages of 2048kB: 20 free" in hugepool(url, "explain", "lab").stdout
    tried = hugepool(url, "explain", "lab", "--count", 30)
    assert tried.stdout.startswith("The pool of 2048kB pages would have 30 pages")


def test_memory_and_history_are_tables(url: str) -> None:
    head, *parts = rows(hugepool(url, "map", "lab", "--bins", 4))
    assert head[:4] == ["first", "pfn", "node", "zone"]
    assert 2 <= len(parts) <= 4
    head, *revisions = rows(hugepool(url, "history", "lab", "--fields", "nr_hugepages"))
    assert head == ["revision", "at", "cause", "node", "size", "nr_hugepages"]
    assert revisions[0][0] == "1"


def test_nothing_is_deleted_when_one_name_is_wrong(url: str) -> None:
    hugepool(url, "fork", "lab", "copy")
    done = hugepool(url, "rm", "copy", "cpoy")
    assert (done.exit_code, done.stderr) == (1, "refused: no host 'cpoy'\n")
    assert hugepool(url, "rm", "copy").exit_code == 0


def test_a_plan_of_a_host_and_of_a_file_are_the_same(url: str, tmp_path: Path) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text(json.dumps(SPEC))
    of_host = hugepool(url, "plan", "lab", "savings", "count=8", "--json")
    of_file = hugepool("http://127.0.0.1:9", "plan", file, "savings", "count=8", "--json")
    assert (of_host.exit_code, of_file.exit_code) == (0, 0)
    assert json.loads(of_host.stdout)["net_bytes"] <= json.loads(of_file.stdout)["gross_bytes"]
    assert ["possible", "8"] in rows(hugepool(url, "plan", file, "savings", "count=8"))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["savings", "cuont=8"], 2, "count: is required\ncuont: is not a known field"),
        (["saving", "count=8"], 2, "there is no plan 'saving'"),
        (["savings", "8"], 2, "'8': a field is name=value"),
        (["headroom"], 1, "refused: there is no free huge page"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text(json.dumps(SPEC))
    done = hugepool("http://127.0.0.1:9", "plan", file, *arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr


def test_without_a_service_it_is_said_how_to_start_one() -> None:
    done = hugepool("http://127.0.0.1:9", "hosts")
    assert done.exit_code == 1
    assert "start one with: hugepool serve" in done.stderr


def test_the_help_of_serve_names_every_variable_and_its_default() -> None:
    shown = hugepool("", "serve", "--help").stdout
    for name in Settings.model_fields:
        assert f"HUGEPOOL_{name.upper()} [" in shown
    assert "HUGEPOOL_PORT [8000]" in shown


def test_the_man_page_has_every_command_and_variable_and_is_good_for_man() -> None:
    text = hugepool("", "man").stdout
    for word in ("hosts", "resize HOST COUNT", "token new", "serve", "HUGEPOOL_PORT"):
        assert word in text
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww"], input=text, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "hugepool resize HOST COUNT" in re.sub(".\b", "", done.stdout)  # bold is a letter over itself


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_it(shell: str) -> None:
    env = {"_HUGEPOOL_COMPLETE": f"source_{shell}"}
    done = CliRunner().invoke(app, [], env=env, prog_name="hugepool")
    assert "_HUGEPOOL_COMPLETE=complete_" in done.output
