"""The files of transparent huge pages: set, read back, refused."""

import pytest

from hugepool.fs.render import render
from hugepool.fs.thp import FIXED, FOLDER, WRITABLE
from hugepool.fs.write import parse_write
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Call, Host


def machine(cmdline: str = "") -> Host:
    return boot(HostSpec((NodeSpec(1 << 30, 1),), cmdline=cmdline), Call())


def write(host: Host, name: str, data: bytes) -> int:
    asked = parse_write(host, f"{FOLDER}/{name}", data)
    assert asked.command is not None
    apply(host, asked.command)
    return asked.used


def text(host: Host, name: str) -> str:
    return render(host, f"{FOLDER}/{name}")


def test_a_machine_begins_as_the_kernel_or_its_command_line_has_it() -> None:
    assert text(machine(), "enabled") == "[always] madvise never\n"
    assert text(machine("transparent_hugepage=never"), "enabled") == "always madvise [never]\n"
    assert text(machine(), "defrag") == "always defer defer+madvise [madvise] never\n"
    assert text(machine(), "shmem_enabled") == "always within_size advise [never] deny force\n"
    assert text(machine(), "hpage_pmd_size") == "2097152\n"


SET = {
    "enabled": (b"madvise\n", "always [madvise] never\n"),
    "defrag": (b"defer+madvise", "always defer [defer+madvise] madvise never\n"),
    "shmem_enabled": (b"force\n", "always within_size advise never deny [force]\n"),
    "use_zero_page": (b"0", "0\n"),
    "khugepaged/defrag": (b"0\n", "0\n"),
    "khugepaged/alloc_sleep_millisecs": (b"5\n", "5\n"),
    "khugepaged/scan_sleep_millisecs": (b"+7\n", "7\n"),
    "khugepaged/pages_to_scan": (b"512\n", "512\n"),
    "khugepaged/max_ptes_none": (b"0\n", "0\n"),
    "khugepaged/max_ptes_swap": (b"511\n", "511\n"),
    "khugepaged/max_ptes_shared": (b"1\n", "1\n"),
}


def test_every_writable_file_is_tried() -> None:
    assert SET.keys() == WRITABLE.keys()


@pytest.mark.parametrize("name", SET)
def test_what_is_written_is_read_back_and_nothing_else_changes(name: str) -> None:
    host, (data, shown) = machine(), SET[name]
    others = {other: text(host, other) for other in {*WRITABLE, *FIXED} - {name}}
    assert write(host, name, data) == len(data)
    assert text(host, name) == shown
    assert {other: text(host, other) for other in others} == others


@pytest.mark.parametrize(
    ("name", "data", "errno"),
    [
        ("enabled", b"sometimes", "EINVAL"),
        ("enabled", b"[always]", "EINVAL"),
        ("defrag", b"defer madvise", "EINVAL"),
        ("use_zero_page", b"2", "EINVAL"),
        ("khugepaged/pages_to_scan", b"0", "EINVAL"),
        ("khugepaged/pages_to_scan", b"4294967296", "EINVAL"),
        ("khugepaged/max_ptes_none", b"512", "EINVAL"),
        ("hpage_pmd_size", b"4096", "EACCES"),
        ("khugepaged/full_scans", b"1", "EACCES"),
    ],
)
def test_what_a_file_does_not_take_is_refused_and_changes_nothing(name: str, data: bytes, errno: str) -> None:
    host = machine()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        write(host, name, data)
    assert refused.value.errno == errno
    assert digest(host) == before
