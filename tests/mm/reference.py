"""The slow reference: one page at a time, straight from docs/kernel-rules.md 5.1 and 5.2.  Counters only."""

from dataclasses import dataclass


@dataclass
class ReferenceZone:
    """A zone as numbers: free pages, the pages it keeps from GFP_KERNEL, its low and min watermarks."""

    free: int
    min: int
    low: int
    reserve: int
    kernel: bool


def restore_and_free(
    zones: dict[str, ReferenceZone],
    zonelist: list[str],
    pages: list[tuple[str, bool]],
    need: int,
    *,
    bulk: bool,
) -> tuple[list[bool], dict[str, int]]:
    """Give back huge pages one after the other; with ``bulk``, restore until the first error before freeing.

    Args:
        zones: by name.  zonelist: kernel zones in the order a request tries them.
        pages: (zone, optimised) of each huge page in the order freed.  need: frames per restore.

    Returns:
        Which pages went, and the free pages per zone after.
    """
    went = [False] * len(pages)
    pending = list(range(len(pages)))
    while pending:
        restored: list[int] = []
        for i in pending[: None if bulk else 1]:
            if not _restore(zones, zonelist, need if pages[i][1] else 0):
                break
            restored.append(i)
        for i in restored:
            zones[pages[i][0]].free += 512
            went[i] = True
        pending = pending[max(1, len(restored)) :]
    return went, {name: zone.free for name, zone in zones.items()}


def _restore(zones: dict[str, ReferenceZone], zonelist: list[str], need: int) -> bool:
    """Take frames one request at a time, all or nothing."""
    taken: list[str] = []
    while len(taken) < need:
        source = _pick(zones, zonelist)
        if source is None:
            for name in taken:
                zones[name].free += 1
            return False
        zones[source].free -= 1
        taken.append(source)
    return True


def _pick(zones: dict[str, ReferenceZone], zonelist: list[str]) -> str | None:
    for mark in ("low", "min"):
        for name in zonelist:
            zone = zones[name]
            if zone.free > getattr(zone, mark) + zone.reserve:
                return name
    return None
