"""Steps of recordings about the page cache: how much there is after a file was read is an input, as a balloon is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hugepool.mm.commands import commands as c
from hugepool.mm.kernel import filemap
from hugepool.mm.kernel.page_alloc import take_pages
from hugepool.mm.machine.mmzone import Migrate, Use, Zone
from hugepool.mm.machine.state import Host
from hugepool.replay.played import Played

if TYPE_CHECKING:
    from hugepool.replay.player import Player

Op = dict[str, Any]
PAGES_PER_MIB = 256
FILE_LISTS = ("nr_zone_inactive_file", "nr_zone_active_file")


def hold_slab(host: Host) -> None:
    """Snapshots are read after drop_caches 3: the reclaimable objects that are left then are held by somebody."""
    for zone in host.zones:
        held = filemap.take_out(host, zone, Use.SLAB, zone.managed, Use.SYSTEM)
        filemap.lower(host, zone.nid, Use.SLAB, held)


def fill(player: "Player", op: Op) -> Played:
    """Files are read.  Dirty pages count as clean: the guest writes them back while they are asked for."""
    if player.cache is None:
        player.cache = player.apply(c.StartTask("cache", "files")).result.pid
    if op["after"] is None:
        player.apply(c.FillCache(player.cache, op["mib"] * PAGES_PER_MIB))
    else:
        player.inputs["how much page cache there is after a file was read"] += 1
        _as_recorded(player, op["after"])
    return Played(op["mib"])


def grow(player: "Player", pid: int, kind: str, op: Op) -> Played:
    """A process grows at the cost of page cache: how far kswapd went at its side decides how far."""
    player.inputs["how far a process grew over page cache"] += 1
    taken = player.apply(
        c.GrowTask(pid, kind, op["pages"], op["until"].get("node"), partial=True)
    ).result.pages
    if op["after"] is not None:
        _as_recorded(player, op["after"])
    return Played(taken)


def _as_recorded(player: "Player", after: Op) -> None:
    for zone in player.host.zones:
        recorded = after["zones"].get(f"{zone.nid}/{zone.name}")
        if recorded is not None and zone.present and player.cache is not None:
            set_cache(player.host, player.cache, zone, sum(recorded.get(name) or 0 for name in FILE_LISTS))


def set_cache(host: Host, pid: int, zone: Zone, pages: int) -> None:
    """Make a zone hold this number of clean pages, what is more or less being an owner's."""
    missing = pages - filemap.pages_in_zone(host.mem, zone, Use.PAGE_CACHE)
    if missing > 0:
        got = take_pages(host.mem, zone, missing, Migrate.MOVABLE, Use.PAGE_CACHE)
        filemap.raise_share(host, pid, zone.nid, Use.PAGE_CACHE, int(got.size))
    else:
        filemap.give_up(host, zone, -missing)


HANDLERS: dict[str, Callable[["Player", Op], Played]] = {"cache-fill": fill}
