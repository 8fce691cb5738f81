"""Tokens with a real service: commands, the mount and tests bring them, and no log has one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugepool.access import Caller, Role, line_of, new_token
from hugepool.client import Client, Refused, Unreachable
from hugepool.harness.child import ChildFailed
from hugepool.harness.host import SimulatedHost
from hugepool.harness.server import Server, serving
from tests.mirror.helpers import skip_without_fuse

SPEC = {"nodes": [{"memory": "1G"}]}
NR = "/proc/sys/vm/nr_hugepages"
PATIENCE_SECONDS = 60
ADMIN, READER = new_token(), new_token()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A service that wants tokens and logs all that it can log."""
    file = folder / "tokens"
    lines = [line_of(Caller("ops", Role.ADMIN), ADMIN), line_of(Caller("grafana", Role.READ), READER)]
    file.write_text("\n".join(lines))
    settings = {"HUGEPOOL_TOKENS_FILE": str(file), "HUGEPOOL_LOG_LEVEL": "trace"}
    with serving(folder, settings=settings, token=ADMIN) as found:
        found.client.create_host("lab", SPEC)
        yield found
        text = found.log.read_text()
        assert "GET /v1/hosts" in text
        assert not any(token[-20:] in text for token in (ADMIN, READER))


def command(server: Server, token: str | None, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if name != "HUGEPOOL_TOKEN"}
    env |= {"COLUMNS": "200", "HUGEPOOL_URL": server.url} | (
        {} if token is None else {"HUGEPOOL_TOKEN": token}
    )
    return subprocess.run(
        [sys.executable, "-m", "hugepool", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_a_command_sends_the_token_of_the_environment(server: Server, tmp_path: Path) -> None:
    done = command(server, None, "export", "lab", str(tmp_path / "tree"))
    assert (done.returncode, "hugepool's commands send HUGEPOOL_TOKEN" in done.stderr) == (1, True)
    done = command(server, new_token(), "export", "lab", str(tmp_path / "tree"))
    assert (done.returncode, "does not know the token" in done.stderr) == (1, True)
    done = command(server, READER, "export", "lab", str(tmp_path / "tree"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "scenario.yaml").write_text("host: lab\nsteps: [{resize: {size: 2048kB, count: 3}}]\n")
    assert command(server, READER, "run", str(tmp_path / "scenario.yaml")).returncode == 0
    machine = ("import", "--name", "again", "--root", str(tmp_path / "tree"))
    done = command(server, READER, *machine)
    assert (done.returncode, "has the role read; this takes write" in done.stderr) == (1, True)
    assert command(server, f"{ADMIN}\n", *machine).returncode == 0


def test_a_mount_and_a_program_of_a_test_have_the_token(server: Server, tmp_path: Path) -> None:
    skip_without_fuse()
    host = SimulatedHost(server, {"spec": SPEC}, tmp_path / "host", pytest.skip)
    try:
        mount = host.mount()
        (mount / NR[1:]).write_text("3\n")
        done = host.exec("cat", NR)
        assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    finally:
        host.end()


def test_a_reader_s_mount_is_read_only_by_the_service(server: Server, tmp_path: Path) -> None:
    with Client(server.url, token=READER) as client:
        assert client.read_file("lab", NR) == "0\n"
        with pytest.raises(Refused, match="has the role read; this takes write") as refused:
            client.write_file("lab", NR, "3")
        assert (refused.value.status, refused.value.errno) == (403, "EPERM")


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "é", "\x00"])
def test_what_can_be_no_token_is_not_sent(token: str) -> None:
    with pytest.raises(Unreachable, match="letters that no token has") as caught:
        Client(token=token)
    assert token not in str(caught.value)


def test_a_hangup_reads_the_file_again_and_a_wrong_one_leaves_the_tokens(
    server: Server, folder: Path
) -> None:
    file, extra = folder / "tokens", new_token()
    text = file.read_text()
    with Client(server.url, token=extra) as client:
        file.write_text(f"{text}\n{line_of(Caller('extra', Role.READ), extra)}")
        os.kill(server.pid, signal.SIGHUP)
        _until_known(client)
        file.write_text("nonsense")
        os.kill(server.pid, signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "stay valid" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.host("lab")["name"] == "lab"
        file.write_text(text)


def _until_known(client: Client) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            client.host("lab")
        except Refused:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.mark.parametrize(
    ("text", "why"), [("ops root 0", "line 1: the role is 'root'"), (None, "cannot be read: No such file")]
)
def test_a_service_with_a_wrong_file_does_not_start_and_says_why(
    tmp_path: Path, text: str | None, why: str
) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_text(text)
    with (
        pytest.raises(ChildFailed) as caught,
        serving(tmp_path, settings={"HUGEPOOL_TOKENS_FILE": str(file)}),
    ):
        pass
    said = (tmp_path / "service.log").read_text()
    assert "ended with status 1" in str(caught.value)
    assert why in said
    assert len(said.splitlines()) == 1
