"""examples/nginx/hugepool.conf in front of a real service that wants tokens: TLS, streams, limits, refusals."""

import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from hugepool.access import Caller, Role, line_of, new_token
from hugepool.client import Client, Refused, Unreachable
from hugepool.harness.server import Server, serving
from tests.docs.console import ROOT
from tests.docs.server import free_port
from tests.programs.running import skip_without

EXAMPLE = ROOT / "examples" / "nginx" / "hugepool.conf"
TOKEN = new_token()
PATIENCE_SECONDS = 60
# All that a nginx.conf needs around the example, in one folder.
FRAME = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
{user}
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/hugepool.conf;
}}
"""


@dataclass
class Proxied:
    """A service behind nginx."""

    server: Server
    url: str
    folder: Path

    @property
    def authority(self) -> str:
        return str(self.folder / "certificate.pem")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    for program in ("nginx", "openssl"):
        skip_without(program)
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    _make_certificate(folder)
    tokens = folder / "tokens"
    tokens.write_text(line_of(Caller("ops", Role.ADMIN), TOKEN))
    settings = {"HUGEPOOL_TOKENS_FILE": str(tokens), "HUGEPOOL_ALLOWED_HOSTS": "localhost"}
    with serving(folder, settings=settings, token=TOKEN) as server:
        _write_configuration(folder, port, server.url.removeprefix("http://"))
        with _running(folder, port):
            yield Proxied(server, f"https://localhost:{port}", folder)
    for log in ("access.log", "error.log", "service.log"):
        assert TOKEN not in (folder / log).read_text()


def _make_certificate(folder: Path) -> None:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subject = ["-subj", "/CN=localhost", "-addext", names, "-days", "2"]
    subprocess.run([*command, *files, *subject], check=True, capture_output=True)


def _write_configuration(folder: Path, port: int, service: str) -> None:
    """The example with this machine's addresses and paths, each of which it must have."""
    text = EXAMPLE.read_text()
    for example, real in (
        ("server 127.0.0.1:8000;", f"server {service};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("server_name hugepool.example.org;", "server_name localhost;"),
        ("/etc/ssl/hugepool/", f"{folder}/"),
    ):
        assert example in text
        text = text.replace(example, real)
    (folder / "hugepool.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""  # who may write into the folder of the test
    (folder / "nginx.conf").write_text(FRAME.format(folder=folder, user=user))


class _running:  # noqa: N801 - used like a function, in a with
    """nginx, from when it listens to when the block ends."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def __enter__(self) -> None:
        command = ["nginx", "-e", str(self.folder / "error.log"), "-c", str(self.folder / "nginx.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if (self.folder / "nginx.pid").exists():
                return
            time.sleep(0.02)
        self.process.kill()
        pytest.fail(f"nginx did not come up: {self.process.communicate()[1]}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def client(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("SSL_CERT_FILE", proxied.authority)
    with Client(proxied.url, token=TOKEN) as found:
        yield found


def test_a_client_with_a_token_does_everything_through_tls(client: Client) -> None:
    client.create_host("lab", {"nodes": [{"memory": "1G"}]})
    assert client.resize("lab", "2048kB", 5)["allocated"] == 5
    assert client.read_file("lab", "/proc/sys/vm/nr_hugepages") == "5\n"
    assert [event["by"] for event in client.get("hosts/lab/events")["items"]][-1] == "ops"
    client.delete_host("lab")


def test_without_a_token_or_the_authority_nothing_is_answered(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Client(proxied.url, token=TOKEN) as stranger,
        pytest.raises(Unreachable, match="certificate verify failed"),
    ):
        stranger.host("lab")
    monkeypatch.setenv("SSL_CERT_FILE", proxied.authority)
    with Client(proxied.url, token="") as nobody, pytest.raises(Refused, match="wants a token") as refused:
        nobody.host("lab")
    assert refused.value.status == 401


def test_tls_is_of_today_and_plain_http_is_no_way_in(proxied: Proxied) -> None:
    address = proxied.url.removeprefix("https://")
    for version, status in (("-tls1_1", 1), ("-tls1_2", 0), ("-tls1_3", 0)):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", address, version],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, version
    plain = httpx.get(f"http://{address}/v1/hosts", headers={"Authorization": f"Bearer {TOKEN}"})
    assert plain.status_code == 400
    answer = httpx.get(f"{proxied.url}/healthz/live", verify=_trusting(proxied))
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert "nginx/" not in answer.headers["server"]


def _trusting(proxied: Proxied) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=proxied.authority)


def test_events_pass_as_they_happen(proxied: Proxied, client: Client) -> None:
    client.create_host("live", {"nodes": [{"memory": "1G"}]})
    seen, started = threading.Event(), threading.Event()

    def listen() -> None:
        with httpx.stream(
            "GET",
            f"{proxied.url}/v1/hosts/live/events/stream",
            headers={"Authorization": f"Bearer {TOKEN}"},
            verify=_trusting(proxied),
            timeout=PATIENCE_SECONDS,
        ) as stream:
            for line in stream.iter_lines():
                started.set()
                if line == "event: PoolResized":
                    seen.set()
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert started.wait(PATIENCE_SECONDS)
    assert not seen.is_set()
    client.resize("live", "2048kB", 2)
    assert seen.wait(PATIENCE_SECONDS)
    thread.join()
    client.delete_host("live")


def test_what_nginx_refuses_by_itself_is_a_problem_like_the_service_s(
    proxied: Proxied, client: Client
) -> None:
    with pytest.raises(Refused, match="larger than the proxy takes") as refused:
        client.request("PUT", "/v1/hosts/lab/fs/proc/sys/vm/nr_hugepages", content=bytes((64 << 20) + 1))
    assert (refused.value.status, refused.value.errno) == (413, "EFBIG")
    os.kill(proxied.server.pid, signal.SIGSTOP)
    try:
        with Client(proxied.url, token=TOKEN, timeout_seconds=0.5) as hasty, pytest.raises(Unreachable):
            hasty.host("lab")
    finally:
        os.kill(proxied.server.pid, signal.SIGCONT)
    assert list(client.hosts()) == []


def test_a_service_that_is_gone_is_503_from_the_proxy(proxied: Proxied, client: Client) -> None:
    """The last test: the service does not come back."""
    os.kill(proxied.server.pid, signal.SIGTERM)
    deadline, found = time.monotonic() + PATIENCE_SECONDS, ""
    while found != "the service does not answer its proxy":
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        with pytest.raises(Refused) as refused:
            client.host("lab")
        found = refused.value.detail
    assert (refused.value.status, refused.value.errno) == (503, "EAGAIN")
