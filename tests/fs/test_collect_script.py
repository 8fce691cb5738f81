"""``collect.sh`` in every POSIX shell that is here: the same files as Python collects, and nothing that is secret."""

import io
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from hugepool.fs.archive import read_archive
from hugepool.fs.collect import SCRIPT, collect
from hugepool.fs.machine import read_machine
from hugepool.fs.paths import is_link
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.machine.state import Call
from tests.fs.machines import DMA, DMA32, machine

SHELLS = {
    "sh": ["sh"], "dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"], "mksh": ["mksh"],
    "yash": ["yash"], "ksh": ["ksh93"],
}  # fmt: skip
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
NODE, MEMORY = "/sys/devices/system/node", "/sys/devices/system/memory"
NAMES = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages")
CMDLINE = (
    "BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz-6.1.0-18-amd64 root=/dev/sda hugepages=4 ip=::::prod-17 token=s3cret"
)
VERSION = "Linux version 6.1.0-18-amd64 (build@prod-17.example.org) (gcc 12.2) #1 SMP\n"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """A shell's command."""
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip("not on this machine")
    return command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the files of a machine."""
    files = {
        **machine((DMA, DMA32)),
        "/proc/cmdline": CMDLINE + "\n",
        "/proc/version": VERSION,
        "/proc/sys/kernel/hostname": "prod-17\n",
        "/proc/sys/vm/min_free_kbytes": "20000\n",
        "/proc/sys/vm/lowmem_reserve_ratio": "256\t256\t32\t0\t0\n",
        f"{MEMORY}/block_size_bytes": "8000000\n",
        f"{NODE}/online": "0\n",
        f"{NODE}/node0/meminfo": "Node 0 MemTotal: 1 kB\nNode 0 MemFree: 1 kB\n",
        f"{NODE}/node0/cpulist": "0-3\n",
        f"{POOL}/demote": "",
        **{f"{POOL}/{name}": "0\n" for name in NAMES},
        **{f"{NODE}/node0/hugepages/hugepages-2048kB/{name}": "0\n" for name in NAMES[:3]},
    }
    for block in range(3):
        files[f"{MEMORY}/memory{block}/state"] = "online\n"
        files[f"{MEMORY}/memory{block}/valid_zones"] = "DMA32\n" if block else "none\n"
        files[f"{NODE}/node0/memory{block}"] = ""
    files["/proc/vmstat"] = "".join(f"counter_{i} {i}\n" for i in range(300))
    for path, text in files.items():
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        if is_link(path):
            file.symlink_to(f"../../memory/{path.rpartition('/')[2]}")
        else:
            file.write_text(text)
    return tmp_path


def run(shell: list[str], *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [*shell, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, cwd=cwd, timeout=120)


def test_every_shell_collects_what_python_does(shell: list[str], root: Path) -> None:
    before = time.time()
    done = run(shell, "-a", "-r", root)
    archive = read_archive(io.BytesIO(done.stdout))
    assert archive.files == collect(root).files
    assert int(before) <= archive.taken_s <= time.time()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:  # other programs read it too
        assert len(tar.getmembers()) == len(archive.files)
        assert tar.getmember(f"{NODE[1:]}/node0/memory1").linkname == "../../memory/memory1"
    assert f"{len(archive.files)} files" in done.stderr.decode()


def test_names_of_hosts_and_words_that_may_be_secret_are_left_out(shell: list[str], root: Path) -> None:
    done = run(shell, "-r", root)
    files = read_archive(io.BytesIO(done.stdout)).files
    assert files["/proc/cmdline"] == "BOOT_IMAGE=/vmlinuz-6.1.0-18-amd64 hugepages=4\n"
    assert files["/proc/version"] == "Linux version 6.1.0-18-amd64 (gcc 12.2) #1 SMP\n"
    assert not [path for path, text in files.items() if "prod-17" in text or "s3cret" in text]
    assert "-a keeps them" in done.stderr.decode()
    (root / "proc/version").write_text("Linux version 6.1.0\n")
    assert (
        read_archive(io.BytesIO(run(shell, "-r", root).stdout)).files["/proc/version"]
        == "Linux version 6.1.0\n"
    )


def test_what_cannot_be_read_is_reported(shell: list[str], root: Path) -> None:
    (root / "proc/pagetypeinfo").mkdir()  # a file that cat fails on, whoever runs it
    done = run(shell, "-r", root)
    assert "left out: /proc/pagetypeinfo" in done.stderr.decode()
    assert "/proc/pagetypeinfo" not in read_archive(io.BytesIO(done.stdout)).files


@pytest.mark.parametrize(("name", "magic"), [("m.tar", b"sys/"), ("m.tar.gz", b"\x1f\x8b")])
def test_the_archive_goes_where_it_is_asked_to(shell: list[str], root: Path, name: str, magic: bytes) -> None:
    run(shell, "-r", root, "-o", name, cwd=root)
    content = (root / name).read_bytes()
    assert content.startswith(magic)
    assert read_archive(io.BytesIO(content)).files
    with pytest.raises(subprocess.CalledProcessError):
        run(shell, "-r", root / "proc")
    with pytest.raises(subprocess.CalledProcessError):
        run(shell, "more")


def test_without_gzip_the_archive_is_plain(root: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "date"):
        (tools / name).symlink_to(shutil.which(name) or name)
    command = [shutil.which("sh") or "sh", str(SCRIPT), "-r", str(root)]
    done = subprocess.run(command, capture_output=True, check=True, env={"PATH": str(tools)}, timeout=60)
    assert done.stdout.startswith(b"sys/")
    assert read_archive(io.BytesIO(done.stdout)).files


@pytest.mark.skipif(not os.path.exists("/proc/zoneinfo"), reason="no Linux")  # noqa: PTH110
def test_this_very_machine_is_collected_and_read(shell: list[str]) -> None:
    files = read_archive(io.BytesIO(run(shell).stdout)).files
    ours = collect().files
    needed = {path for path in ours if path.startswith("/proc/") or "/hugepages/" in path}
    assert needed <= set(files)
    if "Node 0, zone    DMA32" in files["/proc/zoneinfo"]:  # not on arm64
        restore_machine(read_machine(files), Call())


def test_the_script_is_at_its_other_place_too() -> None:
    assert (Path(__file__).parents[2] / "tools/collect.sh").read_bytes() == SCRIPT.read_bytes()
