"""What tests with programs share: whether a program is here, and running it on a host."""

import os
import shutil
import subprocess

import pytest

from tests.mirror.helpers import PATIENCE_SECONDS, Lab, run

KB_OF_HUGE_PAGE = 2048
# Package of Debian that has a program; .ci/run installs them.
PACKAGES = {
    "chmem": "util-linux",
    "free": "procps",
    "hugeadm": "libhugetlbfs-bin",
    "lsmem": "util-linux",
    "nginx": "nginx",
    "openssl": "openssl",
    "lstopo-no-graphics": "hwloc-nox",
    "numactl": "numactl",
    "numastat": "numactl",
    "prometheus": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "promtool": "prometheus",
}


def skip_without(program: str) -> None:
    """Skip the test on a machine that does not have the program."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: apt-get install {PACKAGES[program]}")


def in_lab(lab: Lab, *program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with ``hugepool exec``."""
    return run(lab.client.url, "exec", lab.name, "--", *program)


def output(lab: Lab, *program: str) -> str:
    """What a program prints that succeeds without a word on stderr."""
    done = in_lab(lab, *program)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def beside(*program: str, **variables: str) -> str:
    """What a program prints that is given the place of the files, and runs on the machine itself."""
    done = subprocess.run(
        program,
        env=os.environ | {"LC_ALL": "C.UTF-8"} | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def fields_kb(text: str) -> dict[str, int]:
    """Lines of a meminfo: name -> number."""
    rows = (line.split() for line in text.splitlines())
    return {
        row[-3 if row[-1] == "kB" else -2].rstrip(":"): int(row[-2 if row[-1] == "kB" else -1])
        for row in rows
    }
