"""The kernel's parse rules for what is written to files, as pure functions.

Source: lib/kstrtox.c, lib/cmdline.c memparse(), kernel/sysctl.c (5.14); docs/kernel-rules.md 1.3 and 1.4.
"""

import re
from typing import NamedTuple

from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.units import ULONG_MAX

PAGE_BYTES = 4096
TMPBUFLEN = 22  # kernel/sysctl.c: a number of 21 characters or more is refused
INT_MAX = (1 << 31) - 1
_SPACES = b" \t\n\v\f\r"
_AFTER_NUMBER = b" \t\n\0"
_DIGITS = re.compile(rb"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_MEMPARSE = re.compile(rb"(0[xX][0-9a-fA-F]+|[0-9]+)([kKmMgGtTpPeE]?)[bB]?\n?")


class Parsed(NamedTuple):
    """A sysctl's number and how many bytes of the write were used; ``value`` None: left as it was."""

    value: int | None
    used: int


def einval(data: bytes, wanted: str) -> MMError:
    """EINVAL for a text that is not what the file takes."""
    return MMError("EINVAL", f"{data[:40].decode(errors='replace')!r} is not {wanted}", reason=Reason.PARSE)


def _c_string(data: bytes) -> bytes:
    return data[:PAGE_BYTES].partition(b"\0")[0]


# -- sysfs -----------------------------------------------------------------------------------------------


def kstrtoul(data: bytes) -> int:
    """A decimal number, an optional ``+`` in front and one newline behind; nothing else.

    Raises:
        MMError: EINVAL, or ERANGE above 2**64-1.
    Source: lib/kstrtox.c kstrtoull() base 10 (5.14).
    """
    text = _c_string(data)
    match = re.match(rb"\+?([0-9]+)", text)
    if match is None:
        raise einval(data, "a decimal number")
    if len(match[1].lstrip(b"0")) > 20 or int(match[1]) > ULONG_MAX:
        raise MMError(
            "ERANGE", f"{data[:40].decode(errors='replace')!r} is above 2**64-1", reason=Reason.PARSE
        )
    if text[match.end() :] not in {b"", b"\n"}:
        raise einval(data, "a decimal number")
    return int(match[1])


def simple_attr(data: bytes) -> int:
    """A number whose prefix tells its base, one newline behind: what files of debugfs and hardware pages take.

    Raises:
        MMError: EINVAL, or ERANGE above 2**64-1.
    Source: fs/libfs.c simple_attr_write(), lib/kstrtox.c kstrtoull() base 0 (5.14).
    """
    text = _c_string(data).removesuffix(b"\n").removeprefix(b"+")
    match = _DIGITS.fullmatch(text)
    if match is None:
        raise einval(data, "a number")
    octal = len(text) > 1 and text[:1] == b"0" and text[1:2] not in {b"x", b"X"}
    value = int(text, 8) if octal else int(text, 0)
    if value > ULONG_MAX:
        raise MMError(
            "ERANGE", f"{data[:40].decode(errors='replace')!r} is above 2**64-1", reason=Reason.PARSE
        )
    return value


def kstrtobool(data: bytes) -> bool:
    """y, Y, 1 or ``on`` and n, N, 0 or ``off``: the first letters decide.

    Source: lib/kstrtox.c kstrtobool() (5.14).
    """
    text = _c_string(data).lower()
    if text[:1] in {b"y", b"1"} or text[:2] == b"on":
        return True
    if text[:1] in {b"n", b"0"} or text[:2] == b"of":
        return False
    raise einval(data, "a switch: 1 or 0")


def sysfs_word(data: bytes, words: tuple[str, ...]) -> str:
    """Exactly one of the words, with at most one newline behind.

    Source: lib/string.c sysfs_streq() (5.14).
    """
    text = _c_string(data)
    text = text.removesuffix(b"\n")
    for word in words:
        if text == word.encode():
            return word
    raise einval(data, f"one of {', '.join(words)}")


def memparse_bytes(data: bytes) -> int:
    """A size such as ``2M``, ``2048k`` or ``2048kB``, in bytes.

    Source: lib/cmdline.c memparse() (5.14), which demote_size_store() lets ignore what follows.
    """
    match = _MEMPARSE.match(_c_string(data))
    if match is None:
        raise einval(data, "a size such as 2M")
    number = match[1]
    base = 16 if number[:2].lower() == b"0x" else 8 if number[:1] == b"0" and number != b"0" else 10
    shift = 10 * (b"kmgtpe".find(match[2].lower()) + 1) if match[2] else 0
    try:
        return (int(number, base) << shift) & ULONG_MAX
    except ValueError:
        raise einval(data, "a size such as 2M") from None


# -- /proc/sys -------------------------------------------------------------------------------------------


def _number(text: bytes, data: bytes) -> tuple[int, bool, int]:
    """One number at the start of ``text``: value, negative?, bytes used.

    Source: kernel/sysctl.c proc_get_long() (5.14): base by prefix, then a blank, a newline or the end.
    """
    negative = text[:1] == b"-" and len(text) > 1
    start = int(negative)
    match = _DIGITS.match(text, start)
    if match is None:
        raise einval(data, "a number")
    body = match[0].lower()
    base = 16 if body.startswith(b"0x") else 8 if body.startswith(b"0") else 10
    value = int(body, base) if len(body) < TMPBUFLEN else ULONG_MAX + 1
    follows = text[match.end() : match.end() + 1]
    if match.end() >= TMPBUFLEN - 1 or value > ULONG_MAX or (follows and follows not in _AFTER_NUMBER):
        raise einval(data, "a number followed by a blank or the end")
    return value, negative, match.end()


def _skip_spaces(text: bytes) -> bytes:
    return text.lstrip(_SPACES)


def proc_doulongvec(data: bytes, *, negative_ignored: bool) -> Parsed:
    """An unsigned long of /proc/sys, base by prefix; trailing text after a blank is left over.

    Args:
        negative_ignored: a negative number leaves the value as it was (until 5.15), else EINVAL.

    Raises:
        MMError: EINVAL.
    Source: kernel/sysctl.c __do_proc_doulongvec_minmax() (5.14).
    """
    whole = data[: PAGE_BYTES - 1]
    text = _skip_spaces(whole)
    if not text:
        raise einval(data, "a number")
    value, negative, used = _number(text, data)
    if negative and not negative_ignored:
        raise einval(data, "a number of 0 or more")
    left = len(_skip_spaces(text[used:]))
    return Parsed(None if negative else value, len(whole) - left)


def proc_dointvec(
    data: bytes, count: int, low: int = -INT_MAX - 1, high: int = INT_MAX
) -> tuple[list[int], int]:
    """Up to ``count`` integers of /proc/sys, each ``low``..``high``; and the bytes used.

    Source: kernel/sysctl.c __do_proc_dointvec() (5.14).
    """
    whole = data[: PAGE_BYTES - 1]
    text = whole
    values: list[int] = []
    while len(values) < count:
        text = _skip_spaces(text)
        if not text:
            break
        value, negative, used = _number(text, data)
        signed = -value if negative else value
        if not -INT_MAX - 1 <= signed <= INT_MAX or not low <= signed <= high:
            raise einval(data, f"a number of {low} to {high}")
        values.append(signed)
        text = text[used:]
    if not values:
        raise einval(data, "a number")
    return values, len(whole) - len(_skip_spaces(text))


# -- cgroups ---------------------------------------------------------------------------------------------

OTHER_CONTROLLERS = frozenset(("cpu", "cpuset", "io", "memory", "misc", "pids", "rdma"))


def page_counter(data: bytes) -> int | None:
    """A limit of a cgroup in bytes: a size such as ``20M``, or ``max`` (None).  Blanks around it do not matter.

    Raises:
        MMError: EINVAL.
    Source: mm/page_counter.c page_counter_memparse() (5.14).
    """
    text = _c_string(data).strip()
    if text == b"max":
        return None
    match = _MEMPARSE.fullmatch(text)
    if match is None or text[-1:] in {b"b", b"B"}:
        raise einval(data, "a size such as 20M, or max")
    return memparse_bytes(text)


def cgroup_pid(data: bytes) -> int:
    """A pid for cgroup.procs.  Raises EINVAL.  Source: kernel/cgroup/cgroup.c cgroup_procs_write_start() (5.14)."""
    text = _c_string(data).strip()
    if not re.fullmatch(rb"\+?[0-9]{1,10}", text) or int(text) > INT_MAX:
        raise einval(data, "a pid")
    return int(text)


def subtree_control(data: bytes, controller: str) -> bool | None:
    """Words ``+name`` and ``-name``: whether ours is switched on or off; None: it is not among them.

    Raises:
        MMError: EINVAL no such controller or no sign; ENOENT another controller, of which this machine has none.
    Source: kernel/cgroup/cgroup.c cgroup_subtree_control_write() (5.14).
    """
    enabled = None
    for word in _c_string(data).decode(errors="replace").split():
        name = word[1:]
        if word[:1] not in ("+", "-") or name not in OTHER_CONTROLLERS | {controller}:
            raise einval(data, "controllers with + or - in front")
        if name == controller:
            enabled = word[0] == "+"
        elif word[0] == "+":
            raise MMError("ENOENT", f"{name} is not in cgroup.controllers", reason=Reason.CONTROLLER_OFF)
    return enabled
