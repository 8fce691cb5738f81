"""Bringing the database to the newest schema, wherever hugepool is installed."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, update

import hugepool
from hugepool.store.engine import Database
from hugepool.store.errors import Damaged, StoreFailure
from hugepool.store.tables import hosts


def config() -> Config:
    """Alembic's settings; the migrations lie in the package (a wheel) or at the top (a checkout)."""
    package = Path(hugepool.__file__).parent
    inside = package / "migrations"
    place = inside if inside.is_dir() else package.parents[1] / "migrations"
    settings = Config()
    settings.set_main_option("script_location", str(place).replace("%", "%%"))
    return settings


def upgrade(database: Database) -> None:
    """Migrate to the newest schema, in one transaction; processes that start together take turns.

    Raises:
        StoreFailure: a newer hugepool made the database, or it is damaged.
    """
    with database.migrating() as connection:
        before = _present(connection)
        _refuse_newer(before)
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        if before not in (None, head()):
            connection.execute(
                update(hosts).values(state_seal=None, row_seal=None)
            )  # what was sealed has changed


def _present(connection: Connection) -> str | None:
    """The schema that the database has.  Raises Damaged when that cannot be said."""
    try:
        present = current(connection)
    except CommandError as error:
        raise Damaged(f"the database is damaged: {error}") from error
    if present is None and inspect(connection).has_table(hosts.name):
        raise Damaged("the database is damaged: it has tables, and no version of its schema")
    return present


def _refuse_newer(present: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if present is not None and present not in known:
        raise StoreFailure(
            f"the database has schema {present}, this hugepool knows those up to {head()}: start a newer one"
        )


def head() -> str | None:
    """The newest schema that this code knows."""
    return ScriptDirectory.from_config(config()).get_current_head()


def current(connection: Connection) -> str | None:
    """The schema that the database has."""
    return MigrationContext.configure(connection).get_current_revision()
