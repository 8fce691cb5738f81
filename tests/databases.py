"""Databases for tests: SQLite files, and those of a throw-away PostgreSQL cluster."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url, text

from hugepool.settings import Settings
from hugepool.store.engine import Database
from hugepool.store.migrate import upgrade

SQLITE, POSTGRESQL = "sqlite", "postgresql"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
USER = "postgres"  # who a cluster of root runs as: PostgreSQL refuses root
TEMPLATE = "migrated"
START_SECONDS = 60
# What a test's database need not have: it survives the death of the server, not a loss of power.
FAST = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=32MB", "jit=off")


def why_no_postgresql() -> str | None:
    """What keeps this machine from starting a cluster, in words."""
    try:
        import psycopg  # noqa: F401, PLC0415
    except ImportError:
        return "psycopg is missing: pip install 'hugepool[postgres]'"
    if not BINARIES:
        return "PostgreSQL is missing: apt-get install postgresql"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no user {USER}"
    return None


@dataclass
class Cluster:
    """A running PostgreSQL that listens on a socket in its folder alone."""

    folder: Path
    port: int = 5432
    process: "subprocess.Popen[bytes] | None" = None
    _names: Iterator[int] = field(default_factory=count)

    def start(self) -> None:
        """Start the server, which must not be running, and wait until it answers."""
        settings = [part for setting in FAST for part in ("-c", setting)]
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "", *settings]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                as_user([str(BINARIES[-1] / command[0]), *command[1:]]),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.run("pg_isready", check=False) != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: str = "immediate") -> None:
        """Stop the server: ``immediate`` is its sudden death, from which it recovers at the next start."""
        if self.process is not None:
            self.run("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", how, check=False)
            self.process.wait(START_SECONDS)
            self.process = None

    def run(self, program: str, *arguments: str, check: bool = True) -> int:
        """Run one of PostgreSQL's own programs; its status."""
        place = ["-h", str(self.folder)] if program in {"pg_isready", "createdb", "dropdb"} else []
        command = as_user([str(BINARIES[-1] / program), *place, *arguments])
        done = subprocess.run(command, cwd="/", capture_output=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode()}")
        return done.returncode

    def url(self, name: str) -> str:
        """The address of a database."""
        user = USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        return f"postgresql+psycopg://{user}@/{name}?host={self.folder}"

    def new_database(self, *, migrated: bool = True) -> str:
        """The address of a new database, empty or with the newest schema."""
        name = f"test_{next(self._names)}"
        self._order(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if migrated else 'template0'}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Delete a database, whoever uses it."""
        self._order(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def _order(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(statement))


def as_user(command: list[str]) -> list[str]:
    """A command as the user that PostgreSQL runs as."""
    return (
        ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
        if os.geteuid() == 0
        else command
    )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that is gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    found = Cluster(folder)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        found.run("initdb", "-D", str(folder / "data"), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        found.start()
        found.run("createdb", TEMPLATE)
        database = Database(Settings(database_url=found.url(TEMPLATE)))
        upgrade(database)
        database.close()
        yield found
    finally:
        with suppress(subprocess.TimeoutExpired):
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)
