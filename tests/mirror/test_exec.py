"""``hugepool exec``: a program sees a host's files at their usual places, and nobody else does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mirror.helpers import PATIENCE_SECONDS, POOL, Lab, hugepool, run, skip_without_fuse

NOBODY = 65534
REBUILD = """
import sys
from pathlib import Path
from hugepool.mirror.namespace import lay_over, separate
source, target, beside = map(Path, sys.argv[1:])
separate()
before = beside.read_text()
lay_over(source, target, set())
assert beside.read_text() == before
print((target / "nr").read_text(), end="")
"""


@pytest.fixture(autouse=True)
def fuse() -> None:
    skip_without_fuse()


def in_lab(lab: Lab, *program: str) -> "subprocess.CompletedProcess[str]":
    return run(lab.client.url, "exec", lab.name, "--", *program)


def test_a_program_finds_the_host_where_it_looks_for_the_machine(lab: Lab) -> None:
    done = in_lab(
        lab, "bash", "-c", f"echo 6 > /{POOL}/nr_hugepages && cat /proc/sys/vm/nr_hugepages /proc/meminfo"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "6\n" + lab.read("/proc/meminfo")
    assert lab.pool()["nr_hugepages"] == 6


def test_every_file_that_is_promised_lies_over_the_machine_s(lab: Lab) -> None:
    paths = [
        *(
            f"/proc/{name}"
            for name in ("meminfo", "buddyinfo", "zoneinfo", "vmstat", "pagetypeinfo", "cmdline")
        ),
        *(f"/proc/sys/vm/nr_{name}" for name in ("hugepages", "hugepages_mempolicy", "overcommit_hugepages")),
        "/proc/sys/vm/min_free_kbytes",
        "/sys/devices/system/node/node1/numastat",
        "/sys/devices/system/memory/block_size_bytes",
        "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
    ]
    done = in_lab(lab, "cat", *paths)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(lab.read(path) for path in paths)


def test_the_machine_stays_as_it_is(lab: Lab) -> None:
    kept = ("/proc/cmdline", "/proc/sys/vm/nr_hugepages", "/proc/sys/vm/min_free_kbytes")
    before = {path: Path(path).read_text() for path in kept}
    writes = {"nr_hugepages": 9, "min_free_kbytes": 5000, "drop_caches": 1}
    code = "; ".join(f"echo {value} > /proc/sys/vm/{name}" for name, value in writes.items())
    process = subprocess.Popen(
        hugepool(lab.client.url, "exec", lab.name, "--", "bash", "-c", f"{code}; echo done; read"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    assert {path: Path(path).read_text() for path in kept} == before
    assert f"hugepool:{lab.name} " not in Path("/proc/mounts").read_text()
    process.communicate("\n", timeout=PATIENCE_SECONDS)
    assert lab.read("/proc/sys/vm/min_free_kbytes") == "5000\n"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (["true"], 0),
        (["bash", "-c", "exit 7"], 7),
        (["bash", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["bash", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["/nosuch"], 127),
        (["/etc/passwd"], 126),
        (["printf", "--", "--url"], 0),
    ],
)
def test_the_exit_status_is_that_of_the_program(lab: Lab, program: list[str], status: int) -> None:
    done = in_lab(lab, *program)
    assert done.returncode == status, done.stderr
    assert ("--url" in done.stdout) == ("--url" in program)


def test_an_interrupt_is_for_the_program_and_the_files_stay_until_it_ends(lab: Lab) -> None:
    code = "trap 'cat /proc/sys/vm/nr_hugepages; exit 5' INT TERM; echo ready; while :; do sleep 0.05; done"
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            hugepool(lab.client.url, "exec", lab.name, "--", "bash", "-c", code),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert (said, process.returncode) == ("0\n", 5)


def test_nothing_is_left_behind_even_when_it_is_killed(lab: Lab) -> None:
    process = subprocess.Popen(
        hugepool(
            lab.client.url, "exec", lab.name, "--", "bash", "-c", "ls -d /tmp/hugepool-*; echo $PPID; read"
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(Path(f"/proc/{child}/exe").exists() for child in children):
        assert time.monotonic() < deadline, children
        time.sleep(0.05)
    assert f"hugepool:{lab.name} " not in Path("/proc/mounts").read_text()


def test_a_folder_that_the_machine_has_not_is_made_in_a_copy_of_its_parent(tmp_path: Path) -> None:
    (tmp_path / "hugepages").mkdir()
    (tmp_path / "hugepages" / "nr").write_text("8\n")
    beside = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not Path(beside).exists():
        pytest.skip(f"{beside} is missing here")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(tmp_path / "hugepages"), "/sys/kernel/mm/nosuch", beside],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
    assert not Path("/sys/kernel/mm/nosuch").exists()
    assert list(scratch.iterdir()) == []


def test_without_the_right_to_a_namespace_it_says_so() -> None:
    code = "from hugepool.mirror.namespace import separate; separate()"
    done = subprocess.run(
        [
            "unshare",
            "--map-current-user",
            "--user",
            "setpriv",
            "--bounding-set=-all",
            "--",
            sys.executable,
            "-c",
            code,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if shutil.which("setpriv") is None or "unshare: " in done.stderr:
        pytest.skip("this machine gives no user namespace to try it in")
    assert done.returncode == 1
    assert "no mount namespace: Operation not permitted" in done.stderr
    assert "run it as root" in done.stderr


def test_a_host_that_is_not_there_and_a_missing_program_are_reported(lab: Lab) -> None:
    done = run(lab.client.url, "exec", "nosuch", "--", "true")
    assert (done.returncode, "no host 'nosuch'" in done.stderr) == (1, True)
    assert run(lab.client.url, "exec", lab.name).returncode == 2


def test_sysctls_of_the_machine_are_read_and_written_to_a_private_copy(lab: Lab) -> None:
    paths = [Path(f"/proc/sys/{name}") for name in ("vm/swappiness", "kernel/panic")]
    before = [path.read_text() for path in paths]
    code = (
        "cat {0}; for f in {0}; do echo 7 > $f; done; cat {0}; sysctl -qw vm.nr_hugepages=4 vm.swappiness=9"
    )
    done = in_lab(lab, "bash", "-c", code.format(" ".join(map(str, paths))))
    assert (done.returncode, done.stdout) == (0, "".join(before) + "7\n7\n"), done.stderr
    assert [path.read_text() for path in paths] == before
    assert lab.pool()["nr_hugepages"] == 4


def test_other_files_of_sysfs_cannot_be_written(lab: Lab) -> None:
    done = in_lab(lab, "bash", "-c", "echo 1 > /sys/kernel/profiling || touch /sys/new")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_a_scan_of_the_bus_on_the_way_is_absorbed(lab: Lab) -> None:
    if not Path("/sys/bus/pci/rescan").exists():
        pytest.skip("this machine has no PCI bus")
    assert in_lab(lab, "bash", "-c", "echo 1 > /sys/bus/pci/rescan").returncode == 0


@pytest.mark.parametrize(
    "path", ["/proc/meminfo", "/proc/vmstat", "/proc/sys/vm/nr_hugepages", f"/{POOL}/nr_hugepages"]
)
def test_sendfile_reads_what_read_does_as_often_as_it_is_called(lab: Lab, path: str) -> None:
    code = """
import os, sys
path = sys.argv[1]
for count in (3, 188, 7, 300):
    open("/proc/sys/vm/nr_hugepages", "w").write(str(count))
    out = os.memfd_create("out")
    source = os.open(path, os.O_RDONLY)
    while os.sendfile(out, source, None, 1 << 20):
        pass
    assert os.pread(out, 1 << 20, 0) == open(path, "rb").read(), count
"""
    done = in_lab(lab, sys.executable, "-c", code, path)
    assert done.returncode == 0, done.stderr


def test_who_is_not_root_runs_programs_where_the_kernel_gives_user_namespaces(
    lab: Lab, tmp_path: Path
) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing")
    device = tmp_path / "fuse"
    done = as_nobody(
        lab, device, "bash", "-c", "echo 6 > /proc/sys/vm/nr_hugepages; cat /proc/meminfo; lsmem"
    )
    if "no user namespace" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert "HugePages_Total:       6\n" in done.stdout
    assert "Total online memory:       2G" in done.stdout
    assert lab.pool()["nr_hugepages"] == 6


def as_nobody(lab: Lab, device: Path, *program: str) -> "subprocess.CompletedProcess[str]":
    """Run ``hugepool exec`` as a user without rights, on a machine whose /dev/fuse is for everybody."""
    command = hugepool(lab.client.url, "exec", lab.name, "--", *program)
    code = (
        f"mknod -m 666 {device} c 10 229 && mount --bind {device} /dev/fuse && "
        f'exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- "$@"'
    )
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", code, "bash", *command],
        env={**os.environ, "TMPDIR": "/tmp", "HOME": "/tmp"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
