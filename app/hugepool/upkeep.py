"""``hugepool check``, ``backup`` and ``token new``: what the one who runs a service does with its files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from hugepool.access import Caller, Role, line_of
from hugepool.access import new_token as make_token

if TYPE_CHECKING:
    from hugepool.settings import Settings

tokens = typer.Typer(help="Tokens of a service that wants them.", no_args_is_help=True)
console = Console()
errors = Console(stderr=True)
DatabaseUrl = Annotated[
    str | None, typer.Option(envvar="HUGEPOOL_DATABASE_URL", help="SQLAlchemy URL of the database.")
]


def check(database_url: DatabaseUrl = None) -> None:
    """Look whether a database is whole: its file, its tables, every host with its seal and its laws, every event.

    Changes nothing; the service may run meanwhile.  Exit status: 0 all is well, 1 something is wrong, 2 cannot tell.
    """
    from hugepool.store import check as looking
    from hugepool.store.errors import Damaged, StoreFailure

    count = 0
    try:
        database = looking.existing(_settings(database_url))
        with console.status("looking") as status:
            for finding in looking.findings(
                database, lambda what: status.update(f"looking at {escape(what)}")
            ):
                console.print(finding, markup=False, highlight=False, soft_wrap=True)
                count += 1
    except (looking.CannotCheck, StoreFailure) as error:
        failed(error)
        raise typer.Exit(1 if count or isinstance(error, Damaged) else 2) from None
    console.print(f"{count} findings" if count else "all is well", highlight=False)
    raise typer.Exit(1 if count else 0)


def backup(
    target: Annotated[Path, typer.Argument(help="The new file; must not exist.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Copy the database as it is at one moment; the service may run meanwhile.  docs/operations.md: the way back."""
    from hugepool.store.backup import CannotBackUp, back_up
    from hugepool.store.errors import StoreFailure

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("copying", total=None)
        try:
            size = back_up(
                _settings(database_url).database_url,
                target,
                lambda left, total: progress.update(bar, completed=total - left, total=total),
            )
        except (CannotBackUp, StoreFailure) as error:
            raise failed(error) from None
    console.print(f"{size} bytes in {target}", markup=False, highlight=False, soft_wrap=True)


def _settings(database_url: str | None) -> "Settings":
    from hugepool.settings import Settings

    return Settings() if database_url is None else Settings(database_url=database_url)


@tokens.command("new")
def new_token(
    name: Annotated[str, typer.Argument(help="Who will use it; the events of hosts name it.")],
    role: Annotated[Role, typer.Option(help="What it is for.")] = Role.READ,
    hosts: Annotated[str, typer.Option(help="Hosts that the role write may change, such as 'web-*'.")] = "*",
) -> None:
    """Make a token.  It is shown once, on stderr; the line for HUGEPOOL_TOKENS_FILE is printed: >> appends it.

    Nothing is stored here.  Give the token to who asks the service, as HUGEPOOL_TOKEN.
    """
    token = make_token()
    try:
        line = line_of(Caller(name, role, hosts), token)
    except ValueError as error:
        raise failed(error) from None
    errors.print(f"token (shown this once): {token}", markup=False, highlight=False, soft_wrap=True)
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def failed(error: Exception) -> typer.Exit:
    """One sentence on stderr, and exit status 1."""
    errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)
