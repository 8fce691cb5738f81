"""The page cache: whose pages it holds on which node, how it is filled, and how it is given up.

A page in the cache has a use (clean or dirty) and a place; which owner's page lies where is not kept.  What owners have
are shares: pages by node, the oldest share first.  The oldest share loses its pages first.

Source: mm/filemap.c, fs/drop_caches.c, mm/vmscan.c (5.14).
Not modelled: active and inactive pages; what is read again.  The kernel's order is that of the last use.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from hugepool.mm.kernel.page_alloc import room, take_pages
from hugepool.mm.kernel.page_isolation import CHUNK, count_of_use, pages_of_use
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Blocks, MemoryMap, Migrate, Pfns, Use, Zone
from hugepool.mm.machine.state import CacheShare, Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

THE_MACHINE = 0  # owner of what was in the cache at import
FILL_STEP = 1 << 20  # pages that are taken together
KINDS = {"clean": Use.PAGE_CACHE, "dirty": Use.DIRTY_CACHE, "slab": Use.SLAB}


# -- where pages of a use are ------------------------------------------------------------------------------


def parts_of(
    mem: MemoryMap, zone: Zone, use: Use, *, alone: bool | None = None
) -> Iterator[tuple[Blocks, Blocks]]:
    """Pageblocks of a zone with pages of a use, and how many each has, lowest first, in parts.

    ``alone``: only those in which all else is free, or only the others.
    """
    span = mem.blocks_of(zone)
    mine = (mem.zone[span] == zone.id) & ((mem.use[span] == use) | (mem.use[span] == Use.MIXED))
    blocks = np.flatnonzero(mine) + span.start
    for start in range(0, blocks.size, CHUNK):
        part = blocks[start : start + CHUNK]
        count = count_of_use(mem, part, use)
        wanted = count > 0
        if alone is not None:
            wanted &= (count + mem.nfree[part] == PAGEBLOCK_PAGES) == alone
        yield part[wanted], count[wanted]


def pages_in_zone(mem: MemoryMap, zone: Zone, use: Use) -> int:
    """Pages of a use in a zone."""
    return sum(int(count.sum()) for _, count in parts_of(mem, zone, use))


def take_out(host: Host, zone: Zone, use: Use, count: int, new: Use = Use.BUDDY) -> int:
    """Free up to ``count`` pages of a use in a zone, or give them another one; how many.

    Pageblocks that hold nothing else come first, for movable memory fills them before it goes between other memory; of
    both kinds the lowest first.
    """
    done = 0
    for alone in (True, False):
        for blocks, has in parts_of(host.mem, zone, use, alone=alone):
            if done >= count:
                return done
            done += _take_out_of(host.mem, blocks, has, use, count - done, new)
    return done


def _take_out_of(mem: MemoryMap, blocks: Blocks, has: Blocks, use: Use, count: int, new: Use) -> int:
    ends = np.cumsum(has)
    whole = int(np.searchsorted(ends, count, side="right"))
    _change_all(mem, blocks[:whole], use, new)
    done = int(ends[whole - 1]) if whole else 0
    if whole < blocks.size and done < count:
        pfns = pages_of_use(mem, blocks[whole : whole + 1], use)[: count - done]
        mem.assign_pages(pfns, new)
        done += int(pfns.size)
    return done


def _change_all(mem: MemoryMap, blocks: Blocks, use: Use, new: Use) -> None:
    """All pages of a use in pageblocks get another one."""
    uniform = mem.use[blocks] == use
    mem.assign_blocks(blocks[uniform], new)
    mixed = blocks[~uniform]
    if mixed.size:
        mem.assign_masked(mixed, mem.detail[mem.slot[mixed]] == use, new)


# -- shares ------------------------------------------------------------------------------------------------


def held(host: Host, use: Use, nids: Sequence[int] | None = None) -> int:
    """Pages of a kind of cache on some nodes, or on all."""
    return sum(s.pages for s in host.cached if KINDS[s.kind] == use and (nids is None or s.node in nids))


def of_owner(host: Host, pid: int) -> int:
    """Pages of an owner."""
    return sum(share.pages for share in host.cached if share.pid == pid)


def raise_share(host: Host, pid: int, nid: int, use: Use, pages: int) -> None:
    """An owner has more pages on a node."""
    kind = next(name for name, each in KINDS.items() if each == use)
    for i, share in enumerate(host.cached):
        if (share.pid, share.node, share.kind) == (pid, nid, kind):
            host.cached[i] = share._replace(pages=share.pages + pages)
            return
    if pages:
        host.cached.append(CacheShare(pid, nid, kind, pages))


def lower(host: Host, nid: int, use: Use, pages: int, pid: int | None = None) -> None:
    """Pages of a node are gone: the oldest share's first, or those of one owner."""
    kept = []
    for share in host.cached:
        mine = KINDS[share.kind] == use and share.node == nid and pid in (None, share.pid)
        part = min(share.pages, pages) if mine else 0
        pages -= part
        if share.pages > part:
            kept.append(share._replace(pages=share.pages - part))
    host.cached = kept


def note_move(host: Host, use: Use, old: Pfns, new: Pfns) -> None:
    """Pages of the cache were moved: shares follow to other nodes."""
    nodes = len(host.nodes)
    nid_of = np.array([-1] + [zone.nid for zone in host.zones])
    source, goal = (nid_of[host.mem.zone[pfns // PAGEBLOCK_PAGES]] for pfns in (old, new))
    ways = np.bincount(source * nodes + goal, minlength=nodes * nodes)
    for nid, to in (divmod(way, nodes) for way in np.flatnonzero(ways).tolist()):
        if nid != to:
            _hand_to_node(host, use, nid, to, int(ways[nid * nodes + to]))


def _hand_to_node(host: Host, use: Use, nid: int, to: int, count: int) -> None:
    for share in [s for s in host.cached if KINDS[s.kind] == use and s.node == nid]:
        part = min(share.pages, count)
        lower(host, nid, use, part, share.pid)
        raise_share(host, share.pid, to, use, part)
        count -= part


# -- filling and giving up ----------------------------------------------------------------------------------


def fill(host: Host, pid: int, zones: Sequence[Zone], count: int, use: Use) -> int:
    """Read pages into the cache, down to the high watermarks; what is more replaces the oldest clean pages of others.

    While memory is short kswapd keeps a zone between low and high; here reading stops at high.  Returns the pages that
    the owner has more: fewer than ``count`` when its own oldest ones had to go.
    """
    taken = 0
    for zone in zones:
        while (step := min(count - taken, room(zone, zone.high, ZONE_MOVABLE), FILL_STEP)) > 0:
            got = int(take_pages(host.mem, zone, step, Migrate.MOVABLE, use).size)
            raise_share(host, pid, zone.nid, use, got)
            taken += got
            if got < step:
                break
    for nid in dict.fromkeys(zone.nid for zone in zones):
        taken += _replace_oldest(host, pid, [zone for zone in zones if zone.nid == nid], count - taken, use)
    return taken


def _replace_oldest(host: Host, pid: int, zones: Sequence[Zone], count: int, use: Use) -> int:
    """The oldest clean pages of others on a node become an owner's."""
    nid, done = zones[0].nid, 0
    for share in [s for s in host.cached if s.node == nid and s.kind == "clean" and s.pid != pid]:
        part = min(share.pages, count - done)
        if part > 0 and use != Use.PAGE_CACHE:
            part = change_use(host, zones, Use.PAGE_CACHE, use, part)
        lower(host, nid, Use.PAGE_CACHE, part, share.pid)
        raise_share(host, pid, nid, use, part)
        done += part
    return done


def change_use(host: Host, zones: Sequence[Zone], old: Use, new: Use, count: int) -> int:
    """Pages of some zones get another use, lowest pageblocks first; how many.  Shares are the caller's."""
    done = 0
    for zone in zones:
        done += take_out(host, zone, old, count - done, new)
    return done


def give_up(host: Host, zone: Zone, count: int, use: Use = Use.PAGE_CACHE) -> int:
    """Free up to ``count`` pages of a zone's cache, the oldest share's; how many."""
    if count <= 0 or not held(host, use, [zone.nid]):
        return 0
    freed = take_out(host, zone, use, count)
    lower(host, zone.nid, use, freed)
    return freed


def drop_owner(host: Host, pid: int) -> int:
    """A file is removed: all pages of an owner are freed, dirty ones, too; how many."""
    shares = [share for share in host.cached if share.pid == pid]
    for share in shares:
        left = share.pages
        for zone in host.nodes[share.node].zones:
            left -= take_out(host, zone, KINDS[share.kind], left)
        lower(host, share.node, KINDS[share.kind], share.pages, pid)
    return sum(share.pages for share in shares)


def hold(host: Host) -> None:
    """Clean cache becomes cache that stays: what a host could do if nobody gave any up."""
    for zone in host.zones:
        take_out(host, zone, Use.PAGE_CACHE, zone.managed, Use.DIRTY_CACHE)
    clean = [share for share in host.cached if share.kind == "clean"]
    for share in clean:
        lower(host, share.node, Use.PAGE_CACHE, share.pages, share.pid)
        raise_share(host, share.pid, share.node, Use.DIRTY_CACHE, share.pages)


def drop(host: Host, use: Use) -> int:
    """Free all pages of a kind of cache; how many."""
    return sum(give_up(host, zone, zone.managed, use) for zone in host.zones)
