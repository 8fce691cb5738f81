"""Every command has one handler, entered where it stands."""

import pytest

from hugepool.mm.commands import commands
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import Command, SetMaxHugePages
from hugepool.mm.commands.pool import set_max_huge_pages
from hugepool.mm.commands.registry import HANDLERS, handles


def test_every_command_has_a_handler() -> None:
    assert callable(apply)  # importing it enters all of them
    kinds = {kind for kind in vars(commands).values() if isinstance(kind, type) and issubclass(kind, Command)}
    assert set(HANDLERS) == kinds - {Command}


def test_a_second_handler_of_a_command_is_refused() -> None:
    before = dict(HANDLERS)
    with pytest.raises(TypeError, match="SetMaxHugePages has two handlers"):
        handles(SetMaxHugePages)(set_max_huge_pages)
    assert before == HANDLERS
