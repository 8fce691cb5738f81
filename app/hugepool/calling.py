"""What commands that are clients of a service share: where it is, and how its refusals are printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hugepool.upkeep import failed

if TYPE_CHECKING:
    from hugepool.client import Client

console = Console()
errors = Console(stderr=True)
PIPE_WIDTH = 250  # of what is no terminal
Url = Annotated[str, typer.Option(envvar="HUGEPOOL_URL", help="Where the service listens.")]
Host = Annotated[str, typer.Argument(help="Name of a host of the service.")]
DEFAULT_URL = "http://127.0.0.1:8000"


@contextmanager
def calling(url: str) -> Iterator["Client"]:
    """A client of the service; its two errors end the command with exit status 1."""
    from hugepool.client import BadAnswer, Client, Refused, Unreachable

    try:
        with Client(url) as client:
            yield client
    except BadAnswer as error:
        raise failed(error) from None
    except Unreachable as error:
        errors.print(f"{error}\nstart one with: hugepool serve", highlight=False)
        raise typer.Exit(1) from None
    except Refused as error:
        errors.print(f"refused: {error.detail}", markup=False, highlight=False)
        raise typer.Exit(1) from None


def wide() -> Console:
    """Where tables go: they fit a terminal; into a pipe or a file they take what they need."""
    return console if console.is_terminal else Console(width=PIPE_WIDTH)
