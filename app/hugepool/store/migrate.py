"""Bringing the database to the newest schema, wherever hugepool is installed."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import hugepool
from hugepool.store.engine import Database
from hugepool.store.errors import StoreFailure


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
        StoreFailure: a newer hugepool made the database.
    """
    with database.migrating() as connection:
        _refuse_newer(current(connection))
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


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
