"""``hugepool import``: archives, folders, the standard input, several at once, and what is reported."""

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hugepool.cli import app
from hugepool.client import Client
from hugepool.fs import sources
from hugepool.fs.archive import make_archive
from hugepool.fs.paths import is_link
from hugepool.fs.sources import name_for
from tests.docs.server import running
from tests.fs.machines import DMA, DMA32, machine

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes, "tar.gz": gzip.compress, "tgz": gzip.compress, "tar.xz": lzma.compress, "tar.bz2": bz2.compress,
    "tar.zst": zstd.compress,
}  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service."""
    with running(tmp_path_factory.mktemp("service")) as address:
        yield address


def hugepool(url: str, *arguments: object, **more: object) -> Result:
    """Run the command."""
    words = ["import", *map(str, arguments), "--url", url]
    return CliRunner().invoke(app, words, catch_exceptions=False, **more)  # type: ignore[arg-type]


def plain(taken_s: int = 0, **more: int) -> bytes:
    return gzip.decompress(make_archive(machine((DMA, DMA32), **more), taken_s))


@pytest.mark.parametrize("ending", PACKERS)
def test_an_archive_however_it_is_packed(url: str, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"Prod_{ending.replace('.', '')}.{ending}"
    file.write_bytes(PACKERS[ending](plain()))
    done = hugepool(url, file)
    assert done.exit_code == 0, done.output
    name = f"prod-{ending.replace('.', '')}"
    read, host, *assumed = done.output.splitlines()
    assert read == "3 files read, 0 could not be"
    total = (DMA.managed + DMA32.managed) * 4 >> 10
    assert host.startswith(f"host '{name}' (5.14): {total} MiB, 1 node, ")
    assert any("no pagetypeinfo" in line for line in assumed)


def test_the_size_that_is_reported_is_that_of_meminfo(url: str, tmp_path: Path) -> None:
    """MemTotal, which other things than the managed pages of zones make up."""
    files = machine()
    total = int(files["/proc/meminfo"].split()[1]) - 2048
    files["/proc/meminfo"] = files["/proc/meminfo"].replace(files["/proc/meminfo"].split()[1], str(total))
    file = tmp_path / "less.tar.gz"
    file.write_bytes(make_archive(files))
    assert f"{total >> 10} MiB" in hugepool(url, file).output
    with Client(url) as client:
        assert client.read_file("less", "/proc/meminfo").split()[1] == str(total)


def test_the_standard_input_and_a_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = io.BytesIO(plain())

    monkeypatch.setattr(sys, "stdin", Piped)
    assert sources.read_source("-").files == machine((DMA, DMA32))
    for path, text in machine().items():
        file = tmp_path / "prod-3" / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        assert not is_link(path)
        file.write_text(text)
    done = hugepool(url, tmp_path / "prod-3")
    assert done.exit_code == 0
    assert "host 'prod-3'" in done.output
    done = hugepool(url, "--root", tmp_path / "prod-3", "--name", "by-root")
    assert "host 'by-root'" in done.output


def test_several_at_once_and_one_of_them_is_refused(url: str, tmp_path: Path) -> None:
    for name in ("fleet-a", "fleet-b"):
        (tmp_path / f"{name}.tar.gz").write_bytes(gzip.compress(plain()))
    (tmp_path / "fleet-c.tar.gz").write_bytes(b"nothing")
    (tmp_path / "fleet-d.tar.gz").write_bytes(make_archive({"/proc/meminfo": "MemTotal: 1 kB\n"}))
    done = hugepool(url, *sorted(tmp_path.iterdir()), tmp_path / "missing.tar")
    assert done.exit_code == 1
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["'fleet-a'", "'fleet-b'"]
    reported = done.stderr.splitlines()
    assert "fleet-c.tar.gz: archive: " in reported[0]
    assert "fleet-d.tar.gz: refused: " in reported[1]
    assert "missing.tar" in reported[2]


def test_looks_at_one_machine_become_its_history_in_the_order_they_were_taken(
    url: str, tmp_path: Path
) -> None:
    for day in (3, 1, 2):
        taken = make_archive(machine((DMA, DMA32), Buffers=day), 1_700_000_000 + day * 86_400)
        (tmp_path / f"{3 - day}.tar.gz").write_bytes(taken)
    done = hugepool(url, *sorted(tmp_path.iterdir()), "--series", "--name", "watched")
    assert done.exit_code == 0, done.output
    with Client(url) as client:
        assert client.revision("watched") == 3
        assert "Buffers:               3 kB" in client.read_file("watched", "/proc/meminfo")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.tar", "b.tar", "--name", "x"), "--series"),
        (("a.tar", "b.tar", "--save", "x.tar"), "one archive"),
        (("a.tar", "x/a.tar"), "the host 'a'"),
        (("a.tar", "--series"), "needs --name"),
    ],
)
def test_calls_that_make_no_sense_are_refused(words: tuple[str, ...], said: str) -> None:
    done = hugepool("http://127.0.0.1:9", *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_an_archive_is_saved_without_a_service(tmp_path: Path) -> None:
    source, target = tmp_path / "a.tar", tmp_path / "b.tar.gz"
    source.write_bytes(plain(1_700_000_000))
    done = hugepool("http://127.0.0.1:9", source, "--save", target)
    assert done.exit_code == 0, done.output
    assert sources.read_source(str(target)) == sources.read_source(str(source))


@pytest.mark.parametrize(
    ("where", "name"),
    [("fleet/Prod_17.tar.gz", "prod-17"), ("x.tzst", "x"), ("sosreport-db1-2024.tar.xz", "sosreport-db1-2024"),
     ("/--.tar", "imported"), ("a" * 80 + ".tar", "a" * 63), ("db.example.org", "db-example-org")],
)  # fmt: skip
def test_a_name_comes_of_that_of_the_file(where: str, name: str) -> None:
    assert name_for(where) == name
