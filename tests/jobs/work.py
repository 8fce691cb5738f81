"""What worker processes do in these tests.  They import it by its name."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from hugepool.jobs import Report


def square(shared: int, item: int, _report: Report) -> int:
    return shared + item * item


def pid(_shared: Any, _item: Any, _report: Report) -> int:
    return os.getpid()


def count(shared: Path, item: int, report: Report) -> int:
    """Report, then wait until the test lets it go on."""
    report(3, item)
    while not shared.exists():
        time.sleep(0.01)
    report(item, item)
    return item


def endless(shared: Path, item: int, _report: Report) -> None:
    """Say which process it is, and never end."""
    (shared / f"{item}.part").write_text(str(os.getpid()))
    (shared / f"{item}.part").rename(shared / f"{item}.pid")
    while True:
        time.sleep(60)


def die(_shared: Any, _item: Any, _report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(_shared: Any, item: Any, _report: Report) -> None:
    raise ValueError(item)


def one_decides(folder: Path, item: int, report: Report) -> str:
    """The first item's result makes all others unnecessary, which would never end."""
    if item:
        endless(folder, item, report)
    return "decided"
