"""Kernels and tools, and the cache folder with kernel images and the guest's program."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("KERNEL_ORACLE_CACHE") or Path.home() / ".cache" / "kernel-oracle")
AGENT = Path(__file__).parents[1] / "guest"
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

# Series -> package names.  The cloud flavour has all that the recordings need, and boots fastest.
PACKAGES = {
    "6.1": re.compile(r"linux-image-(6\.1\.0-\d+-cloud-amd64)"),
    "6.12": re.compile(r"linux-image-(6\.12\.\d+\+deb\d+-cloud-amd64)"),
}


class OracleError(Exception):
    """Something that a person has to put right; the message says what."""


def image(kernel: str) -> Path:
    """The image of a series ("6.1", "6.12"), of a release that was set up, or at a path."""
    if Path(kernel).is_file():
        return Path(kernel)
    if "/" in kernel:
        raise OracleError(f"no kernel image at {kernel}")
    found = CACHE / "kernels" / kernel / "vmlinuz"
    if not found.exists():
        here = sorted(path.parent.name for path in (CACHE / "kernels").glob("*/vmlinuz"))
        raise OracleError(
            f"kernel {kernel} is not set up (here: {', '.join(here) or 'none'}); "
            f"run: make oracle ARGS='setup --kernel {kernel}'"
        )
    return found.resolve()


def initrd() -> Path:
    """The guest's initial file system, with the agent as /init; built again when the agent's source changes."""
    sources = sorted(AGENT.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    out = CACHE / f"initrd-{digest[:12]}.cpio"
    if not out.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        binary = CACHE / f"agent.{os.getpid()}"
        code = [file for file in sources if file.suffix == ".c"]
        run("gcc", "-O2", "-static", "-Wall", "-o", binary, *code)
        temporary = out.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(cpio(binary.read_bytes()))
        temporary.replace(out)
        binary.unlink()
    return out


def cpio(init: bytes) -> bytes:
    """A newc archive with the empty folders that the agent mounts on, and /init."""
    out = bytearray()
    folders = [(name, 0o40755, b"") for name in ("proc", "sys", "dev", "mnt")]
    entries = [*folders, ("init", 0o100755, init), ("TRAILER!!!", 0, b"")]
    for inode, (name, mode, data) in enumerate(entries, 1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def program(name: str) -> str:
    """The path of a tool, in sbin as well.  Raises OracleError when it is not installed."""
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        raise OracleError(f"{name} is not installed; run: make oracle ARGS=setup")
    return found


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a program to its end and return its output.  Raises OracleError with the output when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except FileNotFoundError:
        raise OracleError(f"{words[0]} is not installed; run: make oracle ARGS=setup") from None
    if done.returncode:
        raise OracleError(
            f"{' '.join(words)} failed with status {done.returncode}:\n{done.stdout[-2000:].strip()}"
        )
    return done.stdout


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
