"""A server that means harm: whatever it lists or sends, nothing outside of the folder is touched."""

import errno
import gzip
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hugepool.client import BadAnswer, Client, Refused, Unreachable
from hugepool.mirror import view
from hugepool.mirror.export import MARK, Bounds, CannotExport, export
from hugepool.mirror.listing import MAX_ENTRIES, stays_inside
from hugepool.mirror.mount import CannotMount, mount
from hugepool.mirror.operations import HostFiles
from hugepool.mirror.view import Mirror
from tests.mirror.helpers import hugepool, run, skip_without_fuse
from tests.mirror.hostile import (
    HOST,
    Behaviour,
    Hostile,
    everything_in,
    file,
    folder,
    hostile_server,
    link,
    send,
    send_for_ever,
    send_json,
)

PATIENCE_SECONDS = 60
VM = "/proc/sys/vm"


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def client(hostile: Hostile) -> Iterator[Client]:
    with Client(hostile.url, timeout_seconds=20) as found:
        yield found


@pytest.fixture
def mirror(client: Client) -> Mirror:
    return Mirror(client, HOST)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that is to stay as it is, with what lies around the exported tree."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("mine")
    (tmp_path / "tree").mkdir()
    before = everything_in(tmp_path / "outside")
    yield tmp_path / "outside"
    assert everything_in(tmp_path / "outside") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "program") == ["outside", "tree"]
    for mode, content in everything_in(tmp_path / "tree").values():
        assert mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX) == 0
        assert stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        assert not (stat.S_ISREG(mode) and mode & 0o111)
        assert b"/outside" not in content


def exported(mirror: Mirror, tmp_path: Path, **more: Any) -> int:
    return export(mirror, tmp_path / "tree", lambda _: None, **more)


def test_an_honest_host_is_written_as_it_is(mirror: Mirror, outside: Path, tmp_path: Path) -> None:
    assert exported(mirror, tmp_path) == 6
    tree = tmp_path / "tree"
    assert (tree / "proc/sys/vm/nr_hugepages").read_text() == "3\n"
    assert (tree / "sys/devices/system/node/node0/memory0/state").read_text() == "online\n"
    assert (tree / MARK).read_text() == f"{HOST} at revision 1\n"


BAD_ENTRIES: dict[str, Any] = {
    "empty name": file(""),
    "the folder itself": folder(".")[0],
    "the folder above": folder("..")[0],
    "a path": file("a/b"),
    "an absolute path": file("/etc/cron.d/x"),
    "a way out": file("../../outside/secret"),
    "a slash": folder("/")[0],
    "NUL": file("x\0y"),
    "a line break": file("x\ny"),
    "a terminal's escape": file("\x1b]0;x\x07"),
    "half a pair": file("\ud800"),
    "right to left": file("\u202egnp"),
    "256 bytes": file("x" * 256),
    "256 bytes of 128 letters": file("é" * 128),
    "a number as name": file(5),  # type: ignore[arg-type]
    "no name": {"type": "file", "mode": "0644"},
    "the same name again": folder("meminfo")[0],
    "setuid": file("x", "4755"),
    "setgid": file("x", "2755"),
    "sticky": file("x", "1777"),
    "setuid with a zero": file("x", "04644"),
    "a program": file("x", "0755"),
    "setuid folder": {"name": "x", "type": "directory", "mode": "4755"},
    "a negative mode": file("x", "-644"),
    "a mode of Python": file("x", "0o644"),
    "digits of another script": file("x", "٦٤٤"),
    "no octal mode": file("x", "0899"),
    "a number as mode": {"name": "x", "type": "file", "mode": 0o644},
    "no mode": {"name": "x", "type": "file"},
    "a device": {"name": "x", "type": "block", "mode": "0666"},
    "a character device": {"name": "x", "type": "char", "mode": "0666"},
    "a pipe": {"name": "x", "type": "fifo", "mode": "0666"},
    "no type": {"name": "x", "mode": "0644"},
    "a list as type": {"name": "x", "type": ["file"], "mode": "0644"},
    "an absolute link": link("x", "/etc/passwd"),
    "a link above the root": link("x", "../../outside/secret"),
    "a link to what is above the root": link("x", "../.."),
    "a link there and back": link("x", "sys/../../.."),
    "an empty link": link("x", ""),
    "a link to the folder itself": link("x", "."),
    "a link with two slashes": link("x", "sys//vm"),
    "a link with NUL": link("x", "sys\0vm"),
    "a link with an escape": link("x", "\x1b[2J"),
    "a long link": link("x", "/".join(["sys"] * 1100)),
    "a link to nowhere": {"name": "x", "type": "symlink", "mode": "0777"},
    "a link to a number": link("x", 7),
    "a setuid link": {**link("x", "sys"), "mode": "4777"},
    "a name only": "x",
    "nothing": None,
    "a list": ["x"],
}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_an_entry_that_could_do_harm_ends_the_export_and_is_an_error_of_the_mount(
    hostile: Hostile, mirror: Mirror, outside: Path, tmp_path: Path, entry: Any
) -> None:
    listing = hostile.tree["/proc"]
    assert isinstance(listing, list)
    hostile.tree["/proc"] = [*listing, entry]
    hostile.otherwise = b"harm"
    with pytest.raises(BadAnswer, match="its listing of /proc has") as caught:
        exported(mirror, tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
    files = HostFiles(mirror)
    for operation in (lambda: files.entries("/proc"), lambda: files.attributes("/proc/meminfo")):
        with pytest.raises(OSError, match=r".+") as error:
            operation()
        assert error.value.errno == errno.EIO


@pytest.mark.parametrize("name", ["etc", ".ssh", "root", MARK])
def test_beside_proc_and_sys_nothing_is_written(
    hostile: Hostile, mirror: Mirror, outside: Path, tmp_path: Path, name: str
) -> None:
    hostile.tree["/"] = folder("proc", "sys", name)
    with pytest.raises(BadAnswer, match="next to proc and sys"):
        exported(mirror, tmp_path, force=True)
    assert not (tmp_path / "tree" / name).is_dir()


@pytest.mark.parametrize(
    ("target", "depth", "fine"),
    [
        ("../../node/node0", 5, True),
        ("node0", 1, True),
        ("a/b/c", 1, True),
        ("../sys/x", 1, True),
        ("../../x", 2, True),
        ("../x", 0, False),
        ("../../x", 1, False),
        ("..", 5, False),
        ("../", 5, False),
        ("a/../b", 5, False),
        ("./a", 5, False),
        ("a/", 5, False),
        ("/a", 5, False),
        ("..x", 0, True),
        (".../x", 0, True),
    ],
)
def test_a_link_goes_up_first_and_never_above_the_root(target: str, depth: int, fine: bool) -> None:
    assert stays_inside(target, depth) is fine


def _deep(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"[" * 200_000, kind="application/json")


def _drop(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfew")
    handler.close_connection = True


def _headers_for_ever(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.close_connection = True
    for number in count():
        handler.wfile.write(b"X-%d: %s\r\n" % (number, b"y" * 1000))


BAD_ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "a redirect": (lambda h: send(h, b"", 302, Location="http://127.0.0.1:1/"), "status 302"),
    "unchanged since never": (lambda h: send(h, b"", 304), "unchanged"),
    "no tag": (lambda h: send(h, b"{}", ETag=""), "without a revision"),
    "digits of another script": (lambda h: send(h, b"{}", ETag='"\xb2"'), "without a revision"),
    "a long tag": (lambda h: send(h, b"{}", ETag=f'"{"9" * 5000}"'), "without a revision"),
    "not JSON": (lambda h: send(h, b"<html>", kind="application/json"), "not answer with JSON"),
    "deep JSON": (_deep, "not answer with JSON"),
    "a number of 5,000 digits": (
        lambda h: send(h, b"9" * 5000, kind="application/json"),
        "not answer with JSON",
    ),
    "a listing without entries": (lambda h: send_json(h, {}), "lists nothing"),
    "entries that are no list": (lambda h: send_json(h, {"entries": {"name": "x"}}), "lists nothing"),
    "a compressed bomb": (
        lambda h: send(h, gzip.compress(bytes(1 << 20)), kind="application/json", Content_Encoding="gzip"),
        "compressed",
    ),
    "an end in the middle": (_drop, "no service at"),
    "more and more": (lambda h: send_for_ever(h, b'[" ' * 30_000), "more than"),
    "headers without end": (_headers_for_ever, "no service at"),
}


@pytest.mark.parametrize(("behaviour", "why"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_an_answer_that_no_service_gives_is_refused(
    hostile: Hostile,
    mirror: Mirror,
    outside: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: Behaviour,
    why: str,
) -> None:
    monkeypatch.setattr(view, "MAX_LISTING_BYTES", 1 << 20)
    hostile.tree["/proc"] = behaviour
    with pytest.raises(Unreachable, match=why):
        exported(mirror, tmp_path)
    with pytest.raises(OSError, match=r".+") as error:
        HostFiles(mirror).entries("/proc")
    assert error.value.errno == errno.EIO


def test_a_file_that_never_ends_is_cut_off_as_well(
    hostile: Hostile, mirror: Mirror, outside: Path, tmp_path: Path
) -> None:
    hostile.tree["/proc/meminfo"] = lambda handler: send_for_ever(handler, bytes(1 << 16), "text/plain")
    with pytest.raises(BadAnswer, match=f"more than {view.MAX_FILE_BYTES} bytes"):
        exported(mirror, tmp_path)


def test_a_byte_now_and_then_is_not_waited_for(hostile: Hostile, outside: Path, tmp_path: Path) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("ETag", '"1"')
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    hostile.tree["/proc/meminfo"] = trickle
    began = time.monotonic()
    with (
        Client(hostile.url, timeout_seconds=0.5) as client,
        pytest.raises(BadAnswer, match=r"longer than 0\.5 s"),
    ):
        exported(Mirror(client, HOST), tmp_path)
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_a_tree_without_end_is_cut_off(
    hostile: Hostile, client: Client, outside: Path, tmp_path: Path
) -> None:
    hostile.otherwise = folder("d")
    hostile.tree["/proc"] = folder("d")
    with pytest.raises(CannotExport, match="more than 32 deep"):
        exported(Mirror(client, HOST), tmp_path)
    hostile.tree["/proc"] = folder(*(f"d{number}" for number in range(9)))
    hostile.otherwise = [file(f"f{number}", "0000") for number in range(20)]
    with pytest.raises(CannotExport, match="more than 100 files"):
        exported(Mirror(client, HOST), tmp_path, bounds=Bounds(files=100))
    hostile.otherwise = bytes(1 << 20)
    hostile.tree["/proc"] = [file(f"f{number}") for number in range(9)]
    with pytest.raises(CannotExport, match=f"more than {5 << 20} bytes"):
        exported(Mirror(client, HOST), tmp_path, bounds=Bounds(content_bytes=5 << 20))


def test_a_folder_of_too_many_names_is_refused(hostile: Hostile, mirror: Mirror) -> None:
    row = json.dumps(file("f"))
    body = f'{{"entries": [{",".join([row] * (MAX_ENTRIES + 1))}]}}'.encode()
    hostile.tree["/proc"] = lambda handler: send(handler, body, kind="application/json")
    with pytest.raises(BadAnswer, match=f"more than {MAX_ENTRIES} entries"):
        mirror.entries("/proc")


@pytest.mark.parametrize("revision", ["1", None, [1], {"a": 1}])
def test_a_host_without_a_revision_is_refused(
    hostile: Hostile, mirror: Mirror, outside: Path, tmp_path: Path, revision: Any
) -> None:
    hostile.revisions = iter([revision])
    with pytest.raises(BadAnswer, match="has no revision"):
        exported(mirror, tmp_path)
    assert everything_in(tmp_path / "tree") == {}


# -- links that lie in the folder already, or are put there meanwhile ---------------------------------------


def test_a_link_in_place_of_a_folder_is_not_followed(mirror: Mirror, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "tree" / "proc").symlink_to("../outside")
    with pytest.raises(OSError, match="proc"):
        exported(mirror, tmp_path, force=True)
    (tmp_path / "tree" / MARK).write_text("lab at revision 1\n")
    with pytest.raises(OSError, match="symbolic link"):
        exported(mirror, tmp_path)
    (tmp_path / "tree" / "proc").unlink()


def test_a_link_in_place_of_a_file_is_replaced_and_so_is_a_second_name_of_a_file(
    mirror: Mirror, outside: Path, tmp_path: Path
) -> None:
    vm = tmp_path / "tree" / "proc" / "sys" / "vm"
    vm.mkdir(parents=True)
    (tmp_path / "tree" / "proc" / "meminfo").symlink_to(outside / "secret")
    (vm / "nr_hugepages").hardlink_to(outside / "secret")
    (tmp_path / "tree" / MARK).symlink_to(outside / "secret")
    exported(mirror, tmp_path, force=True)
    assert (vm / "nr_hugepages").read_text() == "3\n"
    assert not (tmp_path / "tree" / MARK).is_symlink()
    assert everything_in(outside)["secret"][1] == b"mine"


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    mirror: Mirror, outside: Path, tmp_path: Path
) -> None:
    swapped = []

    def swap(path: str) -> None:
        if path == "/proc/sys/vm/nr_hugepages":
            (tmp_path / "tree" / "proc").rename(tmp_path / "tree" / "moved")
            (tmp_path / "tree" / "proc").symlink_to("../outside")
            swapped.append(path)

    export(mirror, tmp_path / "tree", swap)
    assert swapped
    assert (tmp_path / "tree" / "moved" / "meminfo").exists()
    (tmp_path / "tree" / "proc").unlink()


def test_a_name_that_is_a_link_first_and_a_folder_later_leads_nowhere(
    hostile: Hostile, mirror: Mirror, outside: Path, tmp_path: Path
) -> None:
    hostile.revisions = count(1)
    listings = iter([[link("d", "../sys")], folder("d"), folder("d")])
    hostile.tree["/proc"] = lambda handler: send_json(handler, {"entries": next(listings)})
    hostile.tree["/proc/d"] = [file("harm")]
    hostile.tree["/proc/d/harm"] = b"harm"
    (tmp_path / "tree" / "mine").write_text("")
    times = iter(range(0, 1000, 10))
    with pytest.raises(OSError, match="d"):
        exported(Mirror(mirror.client, HOST, clock=lambda: float(next(times))), tmp_path, force=True)
    assert not (tmp_path / "tree" / "sys" / "harm").exists()


# -- the command line, the mount, a program ------------------------------------------------------------------


def test_the_command_says_what_is_wrong_and_shows_no_escape_of_the_server(
    hostile: Hostile, outside: Path, tmp_path: Path
) -> None:
    def problem(handler: BaseHTTPRequestHandler) -> None:
        body = {"detail": "\x1b[2J[/red][bold]gone\r\n", "errno": "\x1b[0m", "errno_number": -1}
        send(handler, json.dumps(body).encode(), 404, "application/problem+json")

    hostile.tree["/proc"] = [file("[red]\x1b[2J")]
    done = run(hostile.url, "export", HOST, str(tmp_path / "tree"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "its listing of /proc has the name '[red]\\x1b[2J'" in done.stderr
    hostile.tree["/proc"] = problem
    done = run(hostile.url, "export", HOST, str(tmp_path / "tree"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused: \\x1b[2J[/red][bold]gone\\r\\n" in done.stderr
    hostile.tree["/proc"] = [file("[red]")]
    hostile.tree["/proc/[red]"] = b""
    done = run(hostile.url, "export", HOST, str(tmp_path / "tree"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [-1, 0, 1 << 40, "1", None, [], 3.5])
def test_an_errno_of_the_server_is_one_of_the_system_or_eio(
    hostile: Hostile, mirror: Mirror, number: Any
) -> None:
    body = json.dumps({"errno_number": number, "detail": "x"}).encode()
    hostile.tree["/proc"] = lambda handler: send(handler, body, 409, "application/problem+json")
    with pytest.raises(Refused) as refused:
        mirror.entries("/proc")
    assert refused.value.errno_number == errno.EIO


def test_what_is_remembered_of_a_host_is_bounded(
    hostile: Hostile, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "MAX_BYTES_REMEMBERED", 1 << 20)
    monkeypatch.setattr(view, "MAX_ENTRIES_REMEMBERED", 100)
    mirror = Mirror(client, HOST)
    hostile.otherwise = bytes(1 << 18)
    for number in range(50):
        mirror.read(f"/proc/f{number}")
    assert sum(len(kept.content) for kept, _ in mirror._contents._values.values()) <= 1 << 20
    hostile.otherwise = folder(*(f"d{number}" for number in range(30)))
    for number in range(50):
        mirror.entries(f"/proc/d{number}")
    assert sum(len(kept.entries) for kept, _ in mirror._listings._values.values()) <= 100


def test_a_mount_has_no_setuid_no_devices_and_no_programs(hostile: Hostile, tmp_path: Path) -> None:
    skip_without_fuse()
    process = subprocess.Popen(
        hugepool(hostile.url, "mount", HOST, str(tmp_path)), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert "is mounted" in process.stdout.readline()
        options = next(
            line for line in Path("/proc/mounts").read_text().splitlines() if f" {tmp_path} " in line
        )
        assert {"nosuid", "nodev", "noexec"} <= set(options.split()[3].split(","))
        assert (tmp_path / "proc" / "meminfo").read_text() == "MemTotal: 1 kB\n"
        hostile.tree[VM] = [file("nr_hugepages", "4755")]
        with pytest.raises(OSError, match="Input/output error"):
            list((tmp_path / "proc" / "sys" / "vm").iterdir())
        hostile.tree["/sys/devices"] = [link("system", "../../../../../../../etc")]
        with pytest.raises(OSError, match="Input/output error"):
            (tmp_path / "sys" / "devices" / "system").readlink()
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
    assert not os.path.ismount(tmp_path)


def test_a_name_with_an_option_in_it_is_not_mounted(client: Client, tmp_path: Path) -> None:
    skip_without_fuse()
    with pytest.raises(CannotMount, match="is not a host's name"):
        mount(Mirror(client, "lab,suid"), "lab,suid", tmp_path)


@pytest.mark.parametrize(
    ("path", "listing", "why"),
    [
        (VM, [file("../../../etc/passwd")], "cannot be laid over"),
        (VM, [link("nr_hugepages", "../../../../etc/passwd")], "cannot be laid over"),
        ("/sys/devices/system", [link("node", "../../../../etc")], "cannot be laid over"),
    ],
    ids=["a way out", "a link out", "a folder that leads out"],
)
def test_a_program_is_not_run_when_the_listing_is_bad(
    hostile: Hostile, outside: Path, tmp_path: Path, path: str, listing: list[Any], why: str
) -> None:
    skip_without_fuse()
    before = Path("/etc/passwd").read_bytes()
    hostile.tree[path] = listing
    done = run(
        hostile.url, "exec", HOST, "--", sys.executable, "-c", f"open({str(tmp_path / 'program')!r}, 'w')"
    )
    assert done.returncode == 1, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "program").exists()
    assert Path("/etc/passwd").read_bytes() == before
