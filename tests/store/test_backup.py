"""``hugepool backup`` and ``hugepool check``, and the way back as docs/operations.md has it."""

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hugepool.harness.server import serving
from hugepool.store import backup as backup_module
from hugepool.store.backup import CannotBackUp, back_up
from tests.attack import damage
from tests.docs.console import ROOT

SPEC = {"nodes": [{"memory": "1G"}]}
RESTORE = re.compile(r"^## Backups.*?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"HUGEPOOL_DATABASE_URL": f"sqlite:///{folder / 'hugepool.db'}", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "hugepool", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_backup_of_a_busy_service_is_of_one_moment_and_whole(tmp_path: Path) -> None:
    copy, stop = tmp_path / "copy.db", threading.Event()
    with serving(tmp_path) as server:
        server.client.create_host("lab", SPEC)

        def change() -> None:
            count = 0
            while not stop.is_set():
                count += 1
                server.client.resize("lab", "2048kB", count % 50)

        busy = threading.Thread(target=change)
        busy.start()
        try:
            done = command(tmp_path, "backup", str(copy))
        finally:
            stop.set()
            busy.join()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{copy.stat().st_size} bytes in {copy}\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.iterdir()} & {"copy.db-wal", "copy.db.part"} == set()
    (tmp_path / "again").mkdir()
    shutil.copy(copy, tmp_path / "again" / "hugepool.db")
    assert command(tmp_path / "again", "check").stdout == "all is well\n"
    with serving(tmp_path / "again") as server:
        assert server.client.audit("lab")["ok"]


def test_the_way_back_is_as_documented(tmp_path: Path) -> None:
    match = RESTORE.search((ROOT / "docs" / "operations.md").read_text())
    assert match is not None
    script = match[1]
    with serving(tmp_path) as server:
        server.client.create_host("lab", SPEC)
        server.client.resize("lab", "2048kB", 7)
        assert command(tmp_path, "backup", str(tmp_path / "backup.db")).returncode == 0
        server.client.resize("lab", "2048kB", 9)
    damage.BYTES["garbage"](tmp_path / "hugepool.db")
    (tmp_path / "hugepool.db-wal").write_bytes(b"of the damaged one")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "hugepool").write_text(f'#!/bin/sh\nexec {sys.executable} -m hugepool "$@"\n')
    (bin_folder / "hugepool").chmod(0o755)
    env = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=env, check=True, timeout=120)
    assert stat.S_IMODE((tmp_path / "hugepool.db").stat().st_mode) == 0o600
    with serving(tmp_path) as server:
        assert server.client.hugepages("lab", "2048kB")["nr_hugepages"] == 7


def _database(folder: Path) -> str:
    with serving(folder) as server:
        server.client.create_host("lab", SPEC)
    return f"sqlite:///{folder / 'hugepool.db'}"


def test_a_backup_replaces_nothing_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _database(tmp_path)
    before = {file.name for file in tmp_path.iterdir()}
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for target, why in (
        (tmp_path / "mine", "exists already"),
        (tmp_path / "link", "exists"),
        (tmp_path / "missing" / "copy", "cannot be made: No such file"),
    ):
        with pytest.raises(CannotBackUp, match=why):
            back_up(url, target, lambda *_: None)
    monkeypatch.setattr(backup_module, "_settle", lambda *_: os.open("/nosuch", os.O_RDONLY))
    with pytest.raises(CannotBackUp, match="No such file"):
        back_up(url, tmp_path / "copy", lambda *_: None)
    assert (tmp_path / "mine").read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == before | {"mine", "link"}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://localhost/x", "only a SQLite file"),
        ("sqlite://", "only a SQLite file"),
        ("sqlite:////nosuch/x.db", "there is no database /nosuch/x.db"),
        ("what", "cannot be used"),
    ],
)
def test_what_is_no_sqlite_file_is_not_backed_up(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(CannotBackUp, match=why):
        back_up(url, tmp_path / "copy", lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_not_backed_up(tmp_path: Path) -> None:
    url = _database(tmp_path)
    damage.BYTES["page 5 zeroed"](tmp_path / "hugepool.db")
    with pytest.raises(CannotBackUp, match=r"damaged|malformed"):
        back_up(url, tmp_path / "copy", lambda *_: None)
    assert not (tmp_path / "copy").exists()


def test_the_check_says_all_is_well_or_what_is_wrong_or_that_it_cannot_tell(tmp_path: Path) -> None:
    done = command(tmp_path, "check")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no database" in done.stderr
    assert list(tmp_path.iterdir()) == []
    _database(tmp_path)
    file, kept = tmp_path / "hugepool.db", tmp_path / "kept"
    shutil.copy(file, kept)
    done = command(tmp_path, "check")
    assert (done.returncode, done.stdout) == (0, "all is well\n")
    for way, status, said in (
        (damage.ROWS["free pages of a zone"], 1, "the rows of host 'lab' are not what was written"),
        (damage.TABLES["a column renamed"], 1, "there is no column hosts.kernel"),
        (damage.TABLES["a newer schema"], 2, "the database has schema 9999"),
        (damage.TABLES["no version of the schema"], 2, "the database has schema None"),
        (damage.BYTES["garbage"], 1, "file is not a database"),
    ):
        shutil.copy(kept, file)
        way(file)
        done = command(tmp_path, "check")
        assert done.returncode == status, (said, done)
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_the_check_reads_while_a_service_writes(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.client.create_host("lab", SPEC)
        assert command(tmp_path, "check").stdout == "all is well\n"
        server.client.resize("lab", "2048kB", 3)
