"""The one list of commands and their handlers: a handler is entered where it stands, by ``@handles(Command)``."""

from collections.abc import Callable
from typing import Any, TypeVar

from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.state import Call, Host

Asked = TypeVar("Asked", bound=Command)
Answer = dict[str, Any]
Handler = Callable[[Host, Call, Asked], Answer]
HANDLERS: dict[type[Command], Handler[Any]] = {}


def handles(kind: type[Asked]) -> Callable[[Handler[Asked]], Handler[Asked]]:
    """Enter the function below as the handler of a kind of command.

    A handler changes the host in place and answers with plain data.  It raises ``MMError`` when the kernel refuses:
    with ``result`` when something of it is kept.

    Raises:
        TypeError: the kind has a handler already.
    """

    def enter(handler: Handler[Asked]) -> Handler[Asked]:
        if kind in HANDLERS:
            raise TypeError(f"{kind.__name__} has two handlers")
        HANDLERS[kind] = handler
        return handler

    return enter
