"""Small machines for the engine's tests, and short ways to drive them."""

from dataclasses import asdict
from typing import Any

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands.apply import Outcome, apply
from hugepool.mm.commands.commands import ClearFault, Command, SetFault, SetMaxHugePages
from hugepool.mm.machine.pool_outcomes import Resize, Shortfall
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.views.check import check

MIB = 1 << 20
GIB = 1 << 30
ON = "hugetlb_free_vmemmap=on"
KERNELS = tuple(PROFILES)


def machine(*nodes: int, kernel: str = "5.14", cmdline: str = ON, **more: Any) -> Host:
    """A booted host; nodes in bytes (default one of 1 GiB)."""
    spec = HostSpec(tuple(NodeSpec(n, 1) for n in nodes or (GIB,)), kernel, cmdline, **more)
    return boot(spec, Call())


def boot_lines(kernel: str, cmdline: str, **more: Any) -> list[str]:
    """Console lines of a boot of 4 GiB."""
    call = Call()
    boot(HostSpec((NodeSpec(4 * GIB, 1),), kernel, cmdline, **more), call)
    return [data["line"] for event, data in call.events if event == "KernelMessagePrinted"]


def resize(host: Host, count: int, nid: int | None = None, order: int = 9) -> Outcome[Resize]:
    """Write a pool size."""
    return apply(host, SetMaxHugePages(order, count, nid))


def row(host: Host, order: int = 9) -> tuple[int, int, int, int, int]:
    """nr, free, resv, surp, max as the behaviour tables write them."""
    hs = host.hstates[order]
    return (
        hs.nr_huge_pages,
        hs.free_huge_pages,
        hs.resv_huge_pages,
        hs.surplus_huge_pages,
        hs.max_huge_pages,
    )


def free_pages(host: Host) -> int:
    """Free pages of all zones, those on the lists of CPUs among them."""
    return sum(zone.nr_free + zone.nr_pcp for zone in host.zones)


def total_pages(host: Host) -> int:
    """MemTotal in pages."""
    return sum(zone.managed for zone in host.zones)


def fail_restores(host: Host, times: int = -1, space: int = 0) -> None:
    """Every (or some) restore fails from now on."""
    apply(host, SetFault("vmemmap-restore", times=times, space=space))


def let_restores_pass(host: Host) -> None:
    """Disarm the fault point."""
    apply(host, ClearFault("vmemmap-restore"))


def shortfall_of(outcome: Outcome[Resize]) -> Shortfall:
    """What a resize that fell short says."""
    assert outcome.result.shortfall is not None
    return outcome.result.shortfall


def do(host: Host, command: Command[Any]) -> dict[str, Any]:
    """Apply a command that must not be refused; its answer as plain data."""
    outcome = apply(host, command)
    assert outcome.error is None, outcome.error
    answer: dict[str, Any] = asdict(outcome.result)
    return answer


def assert_laws(host: Host) -> None:
    """Every law holds."""
    broken = [law for law in check(host) if not law.ok]
    assert not broken, broken
