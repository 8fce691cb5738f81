"""What may differ between a recording and the model, and what has to be remembered of a replay to know how far.

Every tolerance is a method with its reason.  docs/testing.md tells them in words.
"""

from dataclasses import dataclass
from typing import Any

from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.units import KB_PER_PAGE, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, VMEMMAP_PER_BLOCK
from hugepool.replay import balance
from hugepool.replay.played import Played
from hugepool.replay.reading import (
    BLOCK_DIR,
    HIGH_FRACTION,
    MAPPING_STEPS,
    PROCESS_STEPS,
    RANGE_FILE,
    SIZE,
    SWITCH,
    all_pools,
    asked_of,
    exhausted,
    is_hotplug,
    on_lists,
    pageblocks_of,
    paths,
    persistent_pages,
    pool_files,
    pool_size,
    surplus_of,
)
from hugepool.replay.trace import Step, Trace

Counters = dict[str, Any]
PROCESS_SLACK = 64  # page tables and slab of a process
HOTPLUG_SLACK = 12  # kernel objects of memory blocks: freed late, and held back on lists of their own
TWO_CPU_SLACK = 15  # per-CPU lists and counters of a second processor
DISSOLVED_SLACK = 6  # huge pages
SMALL_SPLIT = 4  # huge pages


@dataclass(slots=True)
class Allowances:
    """How far counters may differ after a step; ``kernel`` and ``model`` are the counters before it.

    ``loose``: pages by which the pools may differ since a growth to exhaustion.
    ``split``: pages by which a node's pools may differ since a write found a node full.
    ``working``: huge pages that the deferred-free worker had to do when a snapshot last disagreed with the model.
    ``waited_for``: huge pages that it has had to do since the pools last agreed.
    ``freed``: pages that a worker or the end of a process frees, maybe after the snapshot.
    ``freeing``: huge pages made now give their vmemmap back.
    ``slab``: pages that the model has taken for kernel objects since the last snapshot.
    ``unsettled``: pages that may still come or go since memory was plugged in or out; ``hotplug``: it was, just now.
    ``cached``: there has been page cache.
    ``placed``: pages whose first optimisation is placement, since the last snapshot.
    ``short_lists``: the guest keeps the lists of CPUs short.
    ``late``: pages of them that the last snapshot had not seen yet, give or take ``late_slack``.
    """

    trace: Trace
    sections: int
    model: Counters
    kernel: Counters
    loose: int = 0
    split: int = 0
    working: int = 0
    waited_for: int = 0
    late: int = 0
    late_slack: int = 0
    freed: int = 0
    processes: int = 0
    threshold: int = 0
    freeing: bool = False
    unsettled: int = 0
    slab: int = 0
    hotplug: bool = False
    cached: bool = False
    placed: int = 0
    short_lists: bool = False

    def __post_init__(self) -> None:
        """Read from the recording how far its counters may lag."""
        self.freeing = self.trace.vmemmap_freeing
        self.threshold = balance.stat_threshold((self.trace.files or {})["/proc/zoneinfo"])

    # -- pools -------------------------------------------------------------------------------------------

    def note_exhaustion(self, step: Step, kernel: Counters, model: Counters) -> None:
        """Asked for more than fits, both end within 1 %; until a number that both reach."""
        asked = asked_of(step)
        if asked is None:
            self._run_away(step, kernel, model)
            return
        self.working = 0  # a write waits for the worker
        size, count, node = asked
        recorded, modelled = pool_size(kernel, size, node), pool_size(model, size, node)
        self._tried_once(step, max(0, pool_size(self.kernel, size, node) - count))
        grew = recorded > pool_size(self.kernel, size, node)
        if count > max(recorded, modelled) and (grew or self.loose):
            self.loose = max(
                self.loose, exhausted(recorded) + (0 if node is None else on_lists(kernel, node))
            )
        elif recorded == modelled == count and surplus_of(kernel) == surplus_of(model):
            self.loose = 0

    def _tried_once(self, step: Step, freed: int) -> None:
        """Restores that reclaim once, under page cache and below min: how many fail depends on kswapd at their side."""
        once = profile_of(self.trace.kernel).restore_tries_once
        if step.do == "squeeze" and once and balance.has_cache(self.kernel):
            self.loose += freed

    def note_full_node(self, kernel: Counters, model: Counters, played: Played) -> None:
        """How a write that finds a node full splits between the nodes is placement, until both sides agree again."""
        nodes = kernel.get("node_hugepages", {})
        if len(nodes) > 1 and played.facts.get("full_nodes"):
            self.split = max(
                max(SMALL_SPLIT, exhausted(pool_size(kernel, SIZE, n))) + on_lists(kernel, n) for n in nodes
            )
        elif all(pool_size(kernel, SIZE, nid) == pool_size(model, SIZE, nid) for nid in nodes):
            self.split = 0

    def note_cut_short(self, step: Step, played: Played) -> None:
        """An offline without memory for restores dissolves as many pages as the lists of CPUs, where long, pay for."""
        self.short_lists = self.short_lists or any(path.endswith(HIGH_FRACTION) for path in paths(step))
        refused = step.errno == played.errno == "ENOMEM" and not self.short_lists
        if refused and any(path.startswith(BLOCK_DIR) for path in paths(step)):
            self.loose = max(self.loose, DISSOLVED_SLACK)

    def _run_away(self, step: Step, kernel: Counters, model: Counters) -> None:
        """A range whose huge pages are replaced until no page is left grows the pool until memory is exhausted, too."""
        recorded = all_pools(kernel)
        grew = recorded > all_pools(self.kernel) and all_pools(model) > all_pools(self.model)
        if grew and any(path.endswith(RANGE_FILE) for path in paths(step)):
            self.loose = max(self.loose, exhausted(recorded))

    def pool_slack(self, kernel: Counters, model: Counters) -> int:
        """Huge pages by which pools may differ: after a growth to exhaustion, and while the worker is at work."""
        if pool_files(kernel) in (pool_files(model), pool_files(self.kernel)):
            self.working = 0  # it has finished
        return max(self.loose, self.working, self.given_up(kernel, model))

    def given_up(self, kernel: Counters, model: Counters) -> int:
        """A worker that waits between restores can give up on some pages and free others seconds later.

        How many it gave up is left open, until both sides agree: pages that are no surplus are compared as ever.
        """
        if pool_files(kernel) == pool_files(model):
            self.waited_for = 0
        if not (self.waited_for and profile_of(self.trace.kernel).restore_waits):
            return 0
        same = all(
            persistent_pages(model, size) == persistent_pages(kernel, size) for size in kernel["hugepages"]
        )
        return self.waited_for if same else 0

    # -- free memory -------------------------------------------------------------------------------------

    def free_memory_slack(
        self, step: Step, kernel: Counters, model: Counters, recorded: int, modelled: int
    ) -> int:
        """Pages by which the changes of free memory may differ."""
        changed = max(self._made_anew(kernel), self._first_time(kernel))
        slack = self._noise(step, abs(recorded)) + self._tables(changed)
        slack += PAGEBLOCK_PAGES * abs(self.pool_gap(kernel, model) - self.pool_gap(self.kernel, self.model))
        slack += PAGEBLOCK_PAGES * self.given_up(kernel, model)
        slack += balance.in_the_reader_s_hand(self.kernel, kernel)
        slack += self._unseen_slab(step, modelled - recorded) + self._owed(modelled - recorded, slack)
        slack = max(slack, self._between(kernel, recorded, modelled))
        slack = max(slack, self._reclaiming(step, kernel, recorded, modelled))
        return slack + self._settles(step, kernel, abs(modelled - recorded) - slack)

    def pool_gap(self, kernel: Counters, model: Counters) -> int:
        """Huge pages by which the pools of both sides differ."""
        return all_pools(model) - all_pools(kernel)

    def free_later(self, step: Step, played: Played) -> None:
        """Count what is freed behind the caller's back: by the worker, and of a process that ended."""
        self.slab += played.slab
        if step.do == "write" and step.errno is None and paths(step)[0].endswith(SWITCH):
            self.freeing = step.op["data"].strip() != "0"
        self.freed += played.released + (PROCESS_SLACK if step.do == "exit" else 0)
        self.working += played.released // PAGEBLOCK_PAGES
        self.waited_for += played.released // PAGEBLOCK_PAGES
        if step.do == "anon-shrink" and profile_of(self.trace.kernel).empty_page_tables_freed:
            self.freed += (played.result or 0) // PAGEBLOCK_PAGES  # page tables wait for a grace period

    def _noise(self, step: Step, recorded: int) -> int:
        slack = TWO_CPU_SLACK if self.trace.cpus > 1 else 0
        if step.do in PROCESS_STEPS:
            slack += recorded // 200
        if step.do in PROCESS_STEPS or self.processes:
            slack += PROCESS_SLACK * max(1, self.processes)
        if step.do in MAPPING_STEPS or (step.do == "wait" and self._still_ending(step)):
            slack += PROCESS_SLACK
        return slack

    def _still_ending(self, step: Step) -> bool:
        """Whether a process that ended before this snapshot was still giving its stack and page tables back."""
        before, now = self.kernel["meminfo_kb"], (step.after or self.kernel)["meminfo_kb"]
        return any(now.get(word, 0) < before.get(word, 0) for word in ("KernelStack", "PageTables"))

    def _made_anew(self, kernel: Counters) -> int:
        """Pageblocks that went into a pool or out of one: a demotion takes them from one pool into another."""
        moved = (
            abs(pageblocks_of(kernel, size) - pageblocks_of(self.kernel, size))
            for size in kernel["hugepages"]
        )
        return max(abs(all_pools(kernel) - all_pools(self.kernel)), *moved)

    def _first_time(self, kernel: Counters) -> int:
        """Huge pages that were optimised for the first time, as MemTotal tells: pages that were replaced, too."""
        total = int(kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        return max(0, total) // profile_of(self.trace.kernel).boot_frames_freed(PAGEBLOCK_ORDER)

    def _tables(self, changed: int) -> int:
        """Page tables of sections touched for the first time: which sections is placement."""
        if not changed or not self.freeing:
            return 0
        return int(min(-(-changed // 64), max(1, self.sections // 50)))

    def _owed(self, gap: int, slack: int) -> int:
        """Frees that the guest does later: the model has them now."""
        owed = self.late + self.late_slack
        if self.freed and gap > 0:
            self.late, self.late_slack = self.late + gap, slack
            return owed + self.freed
        self.late = max(0, self.late + min(0, gap))
        if self.late <= self.late_slack:
            self.late = self.late_slack = 0
        return owed

    def _settles(self, step: Step, kernel: Counters, missing: int) -> int:
        """A gap that memory plugged in or out explains: 12 pages each time, found now or later, but found once."""
        if self.hotplug or is_hotplug(step) or kernel["memory_blocks"] != self.kernel["memory_blocks"]:
            self.unsettled = HOTPLUG_SLACK
        self.hotplug = False
        if not 0 < missing <= self.unsettled:
            return 0
        self.unsettled -= missing
        return missing

    def _unseen_slab(self, step: Step, gap: int) -> int:
        """Slab is counted with a delay: the page that is missing now may be the one it shows at the next snapshot."""
        after = next((s.after for s in self.trace.steps[step.index + 1 :] if s.after is not None), None)
        unseen = balance.slab_change(step.after, after) if step.after and after else 0
        return unseen if 0 < unseen == gap <= self.threshold else 0

    def _between(self, kernel: Counters, balanced: int, modelled: int) -> int:
        """What the kernel's objects took may have been on a list before: right is what lies between both sums."""
        raw = balance.free_pages(kernel, self.threshold) - balance.free_pages(self.kernel, self.threshold)
        return abs(modelled - balanced) if min(raw, balanced) <= modelled <= max(raw, balanced) else 0

    def _reclaiming(self, step: Step, kernel: Counters, recorded: int, modelled: int) -> int:
        """Page cache is counted twice, and what reclaim has in its hands once or not: right is what is between.

        kswapd stops anywhere between the watermarks.
        """
        if not (balance.has_cache(kernel) or balance.has_cache(self.kernel)):
            if self.cached and step.do in PROCESS_STEPS:
                return balance.between_marks(kernel)
            return PROCESS_SLACK if self.cached else 0  # nodes of the cache are freed, and counted, late
        self.cached = True
        other = recorded + balance.cache_lag(self.kernel, kernel)
        inside = min(recorded, other) <= modelled <= max(recorded, other)
        return max(balance.between_marks(kernel), abs(modelled - recorded) if inside else 0)

    def placement(self, step: Step, kernel: Counters, model: Counters) -> int:
        """Pages by which changes of MemTotal may differ, from the place of pages and from pools that differ."""
        changed = abs(all_pools(kernel) - all_pools(self.kernel))
        apart = abs(self.pool_gap(kernel, model) - self.pool_gap(self.kernel, self.model))
        return self._first_placed(step, kernel, model, changed) + VMEMMAP_PER_BLOCK * apart

    def _first_placed(self, step: Step, kernel: Counters, model: Counters, changed: int) -> int:
        """MemTotal: exact when all or none of the pages were optimised for the first time."""
        per = profile_of(self.trace.kernel).boot_frames_freed(PAGEBLOCK_ORDER)
        total = (kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        got = (model["meminfo_kb"]["MemTotal"] - self.model["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        if not self.freeing:
            return 0
        made = max(changed, 0)
        all_or_none = (0, made * per)
        if total in all_or_none and got in all_or_none and step.do in ("write", "wait"):
            return 0 if total == got else made * per
        return int(per * (made + self.loose) + abs(total))
