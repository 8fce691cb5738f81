"""Machines to measure on, and a service with its database in its own folder."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands.commands import SetMaxHugePages
from hugepool.mm.machine.units import ORDER_2M
from hugepool.service import Service, Terms
from hugepool.settings import Settings

GIB = 1 << 30
TIB = 1 << 40
MIB = 1 << 20
FREEING = "hugetlb_free_vmemmap=on"
NS_PER_PAGE = 16_200  # what one huge page costs the kernel itself when its vmemmap is freed


@dataclass(frozen=True, slots=True)
class Bench:
    """A started service and the file of its database."""

    service: Service
    database: Path

    @property
    def wal(self) -> Path:
        """The write-ahead log next to the database."""
        return self.database.with_name(f"{self.database.name}-wal")

    def create(self, name: str, memory_bytes: int, kernel: str = "5.14") -> None:
        """Boot and store a host of one node."""
        self.service.create(name, machine(memory_bytes, kernel), Terms())

    def resize(self, name: str, count: int) -> dict[str, Any]:
        """Resize the pool of 2 MiB pages; durable when it returns."""
        reply = self.service.execute(name, SetMaxHugePages(ORDER_2M, count), Terms())
        return reply.data


def machine(memory_bytes: int, kernel: str = "5.14") -> HostSpec:
    """A machine of one node with 64 CPUs that frees vmemmap."""
    return HostSpec((NodeSpec(memory_bytes, 64),), kernel=kernel, cmdline=FREEING)


def settings_of(database: Path) -> Settings:
    """Settings as they are by default, with the database in this file."""
    return Settings(database_url=f"sqlite:///{database}")


@contextmanager
def bench() -> Iterator[Bench]:
    """A service on a new database, gone afterwards."""
    with TemporaryDirectory(prefix="hugepool-bench-") as folder:
        database = Path(folder) / "hugepool.db"
        service = Service(settings_of(database))
        service.start()
        try:
            yield Bench(service, database)
        finally:
            service.close()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one piece of work."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
