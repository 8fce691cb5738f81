"""A host's files as a plain tree: the same names, types, modes and bytes; never over something else."""

import os
import stat
from pathlib import Path

import pytest

from hugepool.client import Client
from hugepool.mirror import export as export_module
from hugepool.mirror.export import MARK, CannotExport, export
from hugepool.mirror.view import Mirror
from tests.mirror.helpers import MEMORY, POOL, Lab, run


def exported(lab: Lab, folder: Path, *, force: bool = False) -> int:
    return export(Mirror(lab.client, lab.name), folder, lambda _: None, force=force)


def tree(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Everything in a folder: path -> type and mode, content or target."""
    found = {}
    for file in sorted(folder.rglob("*")):
        mode = stat.filemode(file.lstat().st_mode)
        content = (
            os.fsencode(file.readlink())
            if file.is_symlink()
            else file.read_bytes()
            if file.is_file()
            else b""
        )
        found[str(file.relative_to(folder))] = (mode, content)
    return found


def test_a_tree_has_the_names_modes_and_bytes_of_the_host(lab: Lab, tmp_path: Path) -> None:
    lab.client.resize(lab.name, "2048kB", 5)
    files = exported(lab, tmp_path / "tree")
    found = tree(tmp_path / "tree")
    assert found[f"{POOL}/nr_hugepages"] == ("-rw-r--r--", b"5\n")
    assert found[f"{POOL}/free_hugepages"] == ("-r--r--r--", b"5\n")
    assert found["proc/meminfo"] == ("-r--r--r--", lab.read("/proc/meminfo").encode())
    assert found["proc/pagetypeinfo"][0] == "-r--------"
    assert "proc/sys/vm/drop_caches" not in found  # what can only be written has no text
    assert found[f"{MEMORY}/memory2/node0"] == ("lrwxrwxrwx", b"../../node/node0")
    assert files == sum(mode[0] != "d" for mode, _ in found.values()) - 1  # the mark
    assert (tmp_path / "tree" / MEMORY / "memory2/node0/memory2/state").read_text() == "online\n"
    assert found[MARK][1] == f"{lab.name} at revision 2\n".encode()


def test_an_exported_tree_imported_is_the_same_machine(lab: Lab, tmp_path: Path) -> None:
    lab.client.resize(lab.name, "2048kB", 5)
    exported(lab, tmp_path / "tree")
    name = f"{lab.name}-again"
    done = run(lab.client.url, "import", "--name", name, "--root", str(tmp_path / "tree"), "--kernel", "6.1")
    assert done.returncode == 0, done.stderr
    ours, again = lab.client.host(lab.name), lab.client.host(name)
    for field in ("memory", "nodes", "zones", "hugepages", "memory_blocks"):
        assert again[field] == ours[field], field
    for path in ("/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/vmstat"):
        assert lab.client.read_file(name, path) == lab.read(path)


def test_a_second_export_leaves_nothing_of_the_first(lab: Lab, tmp_path: Path) -> None:
    exported(lab, tmp_path)
    (tmp_path / "proc" / "leftover").write_text("of an older host")
    lab.client.resize(lab.name, "2048kB", 9)
    exported(lab, tmp_path)
    assert not (tmp_path / "proc" / "leftover").exists()
    assert (tmp_path / POOL / "nr_hugepages").read_text() == "9\n"


def test_a_folder_with_something_else_in_it_is_left_alone_unless_forced(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "mine").write_text("keep")
    before = tree(tmp_path)
    with pytest.raises(CannotExport, match="not empty"):
        exported(lab, tmp_path)
    assert tree(tmp_path) == before
    exported(lab, tmp_path, force=True)
    assert (tmp_path / "proc" / "mine").read_text() == "keep"
    assert (tmp_path / "proc" / "meminfo").read_text() == lab.read("/proc/meminfo")


def test_a_running_system_is_never_written_over(lab: Lab) -> None:
    with pytest.raises(CannotExport, match="running system"):
        exported(lab, Path("/"), force=True)


def test_a_file_in_place_of_the_folder_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotExport, match="not a folder"):
        exported(lab, tmp_path / "file", force=True)


def test_a_tree_is_of_one_revision(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [3, 4]

    def disturb(path: str) -> None:
        if changes and path.endswith("/nr_hugepages"):
            lab.client.resize(lab.name, "2048kB", changes.pop())

    export(Mirror(lab.client, lab.name), tmp_path / "tree", disturb)
    assert not changes
    assert "HugePages_Total:       3\n" in (tmp_path / "tree/proc/meminfo").read_text()
    assert (tmp_path / "tree" / POOL / "nr_hugepages").read_text() == "3\n"

    monkeypatch.setattr(export_module, "TRIES", 1)
    changes[:] = [5]
    with pytest.raises(CannotExport, match="changed"):
        export(Mirror(lab.client, lab.name), tmp_path / "other", disturb)
    assert (tmp_path / "other" / MARK).read_text() == "not finished\n"
    monkeypatch.setattr(export_module, "TRIES", 3)
    exported(lab, tmp_path / "other")  # and may be made again
    assert (tmp_path / "other" / POOL / "nr_hugepages").read_text() == "5\n"
    assert (tmp_path / "other" / MARK).read_text() == f"{lab.name} at revision {lab.revision}\n"


def test_the_command_says_what_it_wrote_and_why_it_did_not(lab: Lab, tmp_path: Path) -> None:
    done = run(lab.client.url, "export", lab.name, str(tmp_path / "tree"))
    assert done.returncode == 0, done.stderr
    assert f"files of host '{lab.name}' in {tmp_path / 'tree'}" in done.stdout
    (tmp_path / "file").write_text("mine")
    for arguments, why in (
        ((lab.name, str(tmp_path)), "not empty"),
        (("nosuch", str(tmp_path / "new")), "no host 'nosuch'"),
    ):
        done = run(lab.client.url, "export", *arguments)
        assert done.returncode == 1
        assert why in done.stderr
    with Client("http://127.0.0.1:1") as nowhere:
        done = run(nowhere.url, "export", lab.name, str(tmp_path / "new"))
    assert (done.returncode, "no service at" in done.stderr) == (1, True)
