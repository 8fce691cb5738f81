"""Alembic's entry: compares with the tables of hugepool.store and migrates the service's own database.

A caller that has a connection passes it as ``config.attributes["connection"]``; everyone else (the
``alembic`` command) gets the database of ``HUGEPOOL_DATABASE_URL``.
"""

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, event, pool

from hugepool.settings import Settings
from hugepool.store.tables import metadata


def _engine(url: str) -> Engine:
    engine = create_engine(url, poolclass=pool.NullPool)
    if engine.dialect.name == "sqlite":
        # Left alone, the driver begins no transaction before DDL, and a failed migration stays half done.
        event.listen(engine, "connect", lambda raw, _record: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _print_sql(url: str) -> None:
    """``alembic upgrade head --sql``: the statements, and no database."""
    context.configure(
        url=url, target_metadata=metadata, literal_binds=True, dialect_opts={"paramstyle": "named"}
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
    elif context.is_offline_mode():
        _print_sql(Settings().database_url)
    else:
        with _engine(Settings().database_url).connect() as connection:
            _migrate(connection)


_run()
