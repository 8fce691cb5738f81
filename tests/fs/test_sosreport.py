"""A sosreport: files of /proc and /sys, and what outputs of commands say in place of others."""

import io
import tarfile
from pathlib import Path

import pytest

from hugepool.fs.archive import read_archive
from hugepool.fs.collect import collect, root_of
from hugepool.fs.machine import read_machine
from hugepool.fs.sosreport import LSMEM, SYSCTL, UNAME, translated
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.machine.state import Call
from tests.fs.machines import DMA, DMA32, machine

TOP = "sosreport-prod-17-2024-01-01-abcdefg"
OUTPUTS = {
    SYSCTL: "kernel.hostname = prod-17\nkernel.osrelease = 5.14.0-427.13.1.el9_4.x86_64\n"
            "vm.lowmem_reserve_ratio = 256\t256\t32\t0\t0\nvm.min_free_kbytes = 20000\nvm.nr_hugepages = 0\n"
            "net.ipv4.ip_forward = 0\n",
    UNAME: "Linux prod-17 5.14.0-427.13.1.el9_4.x86_64 #1 SMP PREEMPT_DYNAMIC x86_64 x86_64 x86_64 GNU/Linux\n",
    LSMEM: "RANGE                                  SIZE   STATE REMOVABLE   ZONES NODE BLOCK\n"
           "0x0000000000000000-0x0000000007ffffff  128M  online       yes    None    0     0\n"
           + "".join(f"0x{i << 27:016x}-0x{((i + 1) << 27) - 1:016x}  128M  online       yes   DMA32    0 {i:5d}\n"
                     for i in range(1, 32))
           + "\nMemory block size:       128M\nTotal online memory:       4G\nTotal offline memory:      0B\n",
}  # fmt: skip


def report() -> dict[str, str]:
    return {**machine((DMA, DMA32)), **OUTPUTS, "/etc/hostname": "prod-17\n"}


def test_outputs_of_commands_stand_for_files() -> None:
    found = translated(report())
    assert found["/proc/sys/vm/min_free_kbytes"] == "20000\n"
    assert found["/proc/sys/vm/lowmem_reserve_ratio"] == "256\t256\t32\t0\t0\n"
    assert found["/proc/sys/kernel/osrelease"].startswith("5.14.0-427")
    assert found["/proc/sys/kernel/arch"] == "x86_64\n"
    memory = "/sys/devices/system/memory"
    assert found[f"{memory}/block_size_bytes"] == "8000000\n"
    assert found[f"{memory}/memory0/valid_zones"] == "none\n"
    assert found[f"{memory}/memory31/node0"] == ""
    assert not any(
        path.startswith("/sos_commands") or "hostname" in path for path in found if path != "/etc/hostname"
    )


def test_a_file_comes_before_an_output() -> None:
    assert (
        translated({**report(), "/proc/sys/vm/min_free_kbytes": "7\n"})["/proc/sys/vm/min_free_kbytes"]
        == "7\n"
    )


@pytest.mark.parametrize("line", ["0x0-0x7 128M online yes Normal 0", "something else", "RANGE"])
def test_a_table_of_memory_that_is_not_understood_says_nothing(line: str) -> None:
    text = OUTPUTS[LSMEM].replace("\n\nMemory", f"\n{line}\n\nMemory")
    assert "/sys/devices/system/memory/block_size_bytes" not in translated({LSMEM: text})


def test_an_archive_and_a_folder_of_a_report_are_the_same_machine(tmp_path: Path) -> None:
    files = report()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:  # as sos does
        for path, text in files.items():
            member = tarfile.TarInfo(TOP + path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    found = read_archive(io.BytesIO(packed.getvalue())).files
    for path, text in files.items():
        file = tmp_path / TOP / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert root_of(tmp_path) == tmp_path / TOP
    assert collect(root_of(tmp_path)).files == found
    image = read_machine(found)
    assert any("RHEL 9" in sentence for sentence in image.assumptions)
    assert restore_machine(image, Call()).memory_block_pages == 1 << 15


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "proc/meminfo").symlink_to(tmp_path / "secret")
    found = collect(tmp_path)
    assert found.files == {}
    assert list(found.unreadable) == ["/proc/meminfo"]
