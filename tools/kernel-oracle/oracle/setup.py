"""Set-up: QEMU and a compiler from Debian, kernel images into the cache, the agent.  No kernel is installed.

Safe to repeat, and quick when everything is there.
"""

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from oracle.kernels import CACHE, PACKAGES, SEARCHED, OracleError, initrd, run, say
from oracle.machine import Machine
from oracle.recorder import Recorder, record

APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq")
TOOLS = {
    "qemu-system-x86_64": ("qemu-system-x86",),
    "gcc": ("gcc", "libc6-dev"),
    "dpkg-deb": ("dpkg",),
    "mkfs.ext4": ("e2fsprogs",),
}
NEEDED = (
    "HUGETLB_PAGE_OPTIMIZE_VMEMMAP",
    "MEMORY_HOTPLUG",
    "MEMORY_HOTREMOVE",
    "ACPI_HOTPLUG_MEMORY",
    "PROC_PAGE_MONITOR",
    "DEBUG_FS",
    "BLK_DEV_NVME",
    "EXT4_FS",
    "CGROUP_HUGETLB",
)
TRIES = 4
SMOKE_PAGES = 64
MOST_LOST = 200  # base pages that may be missing after the smoke test: page tables, slab, first processes


def set_up(series: Iterable[str], release: str | None) -> int:
    """Tools, agent, and a kernel for each series; the exit status."""
    for one in series:
        if one not in PACKAGES:
            raise OracleError(f"Debian's kernels are {', '.join(PACKAGES)}; name another image by its path")
    _install_tools()
    initrd()
    for one in series:
        _set_up_kernel(one, release)
    return 0


def _install_tools() -> None:
    lacking = [tool for tool in TOOLS if not shutil.which(tool, path=SEARCHED)]
    if lacking:
        missing = [package for tool in lacking for package in TOOLS[tool]]
        _apt_update()
        say(f"installing {' '.join(missing)}")
        run(*APT, "install", "-y", "--no-install-recommends", *missing)


def _set_up_kernel(series: str, release: str | None) -> None:
    """The newest kernel of a series that gives huge pages back; one that does not is remembered as broken."""
    link = CACHE / "kernels" / series
    if link.exists() and release in (None, link.resolve().name):
        say(f"{series}: {link.resolve().name} is set up")
        return
    candidates = [release] if release else _releases(series)[:TRIES]
    for candidate in candidates:
        folder = CACHE / "kernels" / candidate
        if (folder / "broken").exists():
            continue
        _fetch(candidate, folder)
        if reason := _fault_of(folder, series):
            say(f"{candidate}: not usable: {reason}")
            (folder / "broken").write_text(reason + "\n")
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(candidate)
        say(f"{series}: {candidate} is set up")
        return
    raise OracleError(f"no usable kernel {series} among {', '.join(candidates) or 'what apt offers'}")


def _releases(series: str) -> list[str]:
    """Releases of a series that apt offers, newest first."""
    _apt_update()
    names = run("apt-cache", "pkgnames", "linux-image-" + series).split()
    found = {match[1] for name in names if (match := PACKAGES[series].fullmatch(name))}
    return sorted(
        found, key=lambda release: [int(part) for part in re.findall(r"\d+", release)], reverse=True
    )


def _fetch(release: str, folder: Path) -> None:
    """Image and configuration of a kernel package, unpacked and not installed."""
    if (folder / "vmlinuz").exists():
        return
    package = f"linux-image-{release}"
    say(f"downloading {package}")
    with tempfile.TemporaryDirectory(prefix="kernel-oracle-") as name:
        scratch = Path(name)
        run(*APT, "-o", "APT::Sandbox::User=root", "download", package, cwd=scratch)
        archive = next(scratch.glob("*.deb"))
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacking:
            subprocess.run(["tar", "-x", "-C", name, "./boot"], stdin=unpacking.stdout, check=True)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(scratch / "boot" / f"config-{release}", folder / "config")
        shutil.move(scratch / "boot" / f"vmlinuz-{release}", folder / "vmlinuz")


def _fault_of(folder: Path, series: str) -> str | None:
    """Why a kernel cannot serve: an option that it lacks, or huge pages whose memory does not come back."""
    config = (folder / "config").read_text()
    if lacking := [option for option in NEEDED if f"CONFIG_{option}=y" not in config]:
        return f"built without {', '.join(lacking)}"
    free: list[int] = []

    def drive(recorder: Recorder) -> None:
        for pages in (SMOKE_PAGES, 0):
            free.append(recorder.last["free_plus_pcp_pages"])
            recorder.step({"do": "write", "path": "2M/nr_hugepages", "data": pages})
        free.append(recorder.last["free_plus_pcp_pages"])

    machine = Machine(folder.name, hvo=True, memory="2G")
    with tempfile.TemporaryDirectory(prefix="kernel-oracle-") as name:
        if not record(machine, f"smoke-{series}", "", drive, Path(name) / "smoke.json", seconds=300):
            return "it does not boot, or it dies over a small pool"
    lost = free[0] - free[-1]
    return f"{lost} pages are gone after {SMOKE_PAGES} huge pages came and went" if lost > MOST_LOST else None


@functools.cache
def _apt_update() -> None:
    say("asking apt for its lists")
    run(*APT, "update")
