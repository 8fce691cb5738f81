"""A host's files mounted on a folder, by ``hugepool mount`` as a child process."""

import os
import subprocess
import time
from pathlib import Path

from hugepool.harness.child import ChildFailed, said, start, stop

MOUNT_SECONDS = 30.0
POLL_SECONDS = 0.02


class Mount:
    """A mount of a host, from when this is made to ``end``.

    Args:
        folder: an empty one; made when it is missing.
        log: for what the command prints.
        token: for the service; empty when it wants none.

    Raises:
        ChildFailed: it did not come up; with what it printed.
    """

    def __init__(self, url: str, host: str, folder: Path, log: Path, token: str = "") -> None:
        self.folder, self._log = folder, log
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"HUGEPOOL_TOKEN": token}
        self._process = start("mount", host, str(folder), "--url", url, log=log, settings=settings)
        try:
            self._await()
        except BaseException:
            self.end()
            raise

    def _await(self) -> None:
        deadline = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(self.folder):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"nothing is mounted on {self.folder}:\n{said(self._log)}")
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Unmount, and wait until it is done."""
        stop(self._process)
        if f" {self.folder} fuse" in Path("/proc/mounts").read_text():  # its process had to be killed
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)  # noqa: S603, S607 - found by PATH
