"""The one list of commands and their handlers: a handler is entered where it stands, by ``@handles(Command)``."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hugepool.mm.commands.commands import Command
from hugepool.mm.machine.state import Call, Host

Answer = TypeVar("Answer")
Asked = TypeVar("Asked", bound=Command[Any])
Handler = Callable[[Host, Call, Asked], Answer]
HANDLERS: dict[type[Command[Any]], Handler[Any, Any]] = {}


def handles(kind: type[Command[Answer]]) -> "_Entry[Answer]":
    """Enter the function below as the handler of a kind of command.

    A handler changes the host in place and answers with what the kind of command names.  It raises ``MMError`` when
    the kernel refuses: with ``result`` when something of it is kept.

    Raises:
        TypeError: the kind has a handler already.
    """
    return _Entry(kind)


class _Entry(Generic[Answer]):
    def __init__(self, kind: type[Command[Answer]]) -> None:
        self._kind = kind

    def __call__(self, handler: Handler[Asked, Answer]) -> Handler[Asked, Answer]:
        if self._kind in HANDLERS:
            raise TypeError(f"{self._kind.__name__} has two handlers")
        HANDLERS[self._kind] = handler
        return handler
