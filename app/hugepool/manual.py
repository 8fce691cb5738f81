"""The man page, made of the command line itself."""

from collections.abc import Iterator
from typing import Any

from hugepool.settings import described

NAME = "hugepool"
ABOUT = "a Linux host's hugetlb pool, simulated page by page"


def page(command: Any) -> str:
    """The page in man's language.  ``command``: the command line, as click has it."""
    parts = [
        f'.TH {NAME.upper()} 1 "" "{NAME}" "User Commands"',
        ".SH NAME",
        f"{NAME} \\- {_roff(ABOUT)}",
        ".SH SYNOPSIS",
        f".B {NAME}\nCOMMAND [OPTIONS] [ARGUMENTS]",
        ".SH COMMANDS",
        *_commands(command, ()),
        ".SH ENVIRONMENT",
        ".TP\n.B HUGEPOOL_URL\nWhere commands that are clients find the service.",
        ".TP\n.B HUGEPOOL_TOKEN\nThe token that they send.",
        *(_variable(*each) for each in described()),
    ]
    return "\n".join(parts) + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[str]:
    for name in sorted(group.commands):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield from _command(command, (*path, name))


def _command(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    words = [_name(param) if param.required else f"[{_name(param)}]" for param in arguments]
    yield f".SS {_roff(' '.join((NAME, *path, *words)))}"
    yield _roff(" ".join((command.help or "").split()))
    for param in arguments:
        yield f".TP\n.I {_roff(_name(param))}\n{_roff(getattr(param, 'help', None) or '')}"
    for param in command.params:
        if param.param_type_name == "option" and not getattr(param, "hidden", False):
            yield f".TP\n.B {_roff(', '.join(param.opts))}\n{_roff(param.help or '')}"


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper()


def _variable(name: str, default: str, about: str) -> str:
    shown = f" [{default}]" if default else ""
    return f".TP\n.B {_roff(name + shown)}\n{_roff(about)}"


def _roff(text: str) -> str:
    """Text that man takes as it is: hyphens stay hyphens, and no line begins with a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe
