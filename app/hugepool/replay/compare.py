"""Holding the model's counters against a recording's, each by its own rule.

Exact means equal.  Everything else is a stated tolerance with a reason: recorded noise, placement, page tables of
processes, a pool grown until memory ran out.  Changes of free memory are compared step by step, so an error
cannot hide in an old one.
"""

from dataclasses import dataclass, field
from typing import Any

from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.units import BLOCKS_PER_1G, KB_PER_PAGE, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES
from hugepool.replay import balance
from hugepool.replay.played import Played
from hugepool.replay.trace import GONE, Step, Trace

PROCESS_STEPS = ("start", "fork", "exit", "anon-grow", "anon-shrink", "anon-map", "kernel-grow", "kernel-shrink",
                 "kernel-map", "kernel-thin", "mempolicy")  # fmt: skip
TOUCHING_STEPS = ("huge-touch", "huge-write", "huge-read")
MAPPING_STEPS = (*TOUCHING_STEPS, "huge-map", "huge-unmap", "huge-file-allocate", "unlink", "huge-file", "huge-madvise",
                 "hugetlbfs-mount", "umount", "cgroup", "cgroup-write", "cgroup-move")  # fmt: skip
PROCESS_SLACK = 64  # page tables and slab of a process
HOTPLUG_SLACK = 12  # kernel objects of memory blocks: freed late, and held back on lists of their own
TWO_CPU_SLACK = 15  # per-CPU lists and counters of a second processor
EXHAUSTION = 0.01
SIZE = "2048kB"
DISSOLVED_SLACK = 6  # huge pages
HIGH_FRACTION = "/percpu_pagelist_high_fraction"
SMALL_SPLIT = 4  # huge pages
SWITCH = "/hugetlb_optimize_vmemmap"
BLOCK_DIR = "/sys/devices/system/memory/memory"
RANGE_FILE = "/alloc"  # of a CMA area in debugfs
BOOST_SLACK = 2  # of each mark, from rounding
POOL_WORDS = (
    "nr_hugepages",
    "nr_hugepages_mempolicy",
    "free_hugepages",
    "resv_hugepages",
    "surplus_hugepages",
)
MEMINFO_POOL = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")
WATERMARKS = ("min", "low", "high")


@dataclass(frozen=True, slots=True)
class Row:
    """One counter after one step: ``verdict`` is exact, within or off."""

    step: int
    counter: str
    kernel: Any
    model: Any
    verdict: str


@dataclass(slots=True)
class Comparator:
    """Compares step after step; remembers what the rules need of the past.

    ``loose``: pages by which the pools may differ since a growth to exhaustion.
    ``split``: pages by which a node's pools may differ since a write found a node full.
    ``working``: huge pages that the deferred-free worker had to do when a snapshot last disagreed with the model.
    ``waited_for``: huge pages that it has had to do since the pools last agreed.
    ``freed``: pages that a worker or the end of a process frees, maybe after the snapshot.
    ``freeing``: huge pages made now give their vmemmap back.
    ``slab``: pages that the model has taken for kernel objects since the last snapshot.
    ``unsettled``: pages that may still come or go since memory was plugged in or out; ``hotplug``: it was, just now.
    ``cached``: there has been page cache.
    ``short_lists``: the guest keeps the lists of CPUs short.
    ``late``: pages of them that the last snapshot had not seen yet, give or take ``late_slack``.
    """

    trace: Trace
    sections: int
    model: dict[str, Any]
    kernel: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
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
    short_lists: bool = False

    def __post_init__(self) -> None:
        """Read from the recording how far its counters may lag."""
        self.freeing = self.trace.vmemmap_freeing
        self.threshold = balance.stat_threshold((self.trace.files or {})["/proc/zoneinfo"])

    def skip(self, step: Step, played: Played) -> None:
        """A step without a snapshot: remember what it may have moved."""
        self._free_later(step, played)
        self.hotplug = self.hotplug or _is_hotplug(step)
        if step.do in PROCESS_STEPS or step.do in MAPPING_STEPS:
            self.processes += 1

    def result(self, step: Step, played: Played) -> None:
        """Hold the call's result and errno."""
        if played.data is not None:
            self._add(step, "text", step.op.get("data"), played.data, 0)
        if step.do in ("wait", "observe", "read", "setup"):
            return
        self._add(step, "errno", step.errno, played.errno, 0)
        if step.op.get("file") is not None and step.do == "huge-file":
            self._add(step, "file", step.op["file"], played.file, 0)
        if step.do in TOUCHING_STEPS:
            self._add(step, "touched", step.result, played.result, self.loose)
            self._add(step, "signal", step.op.get("signal"), played.signal, 0 if not self.loose else None)
        if step.do == "writes":
            self._add(step, "writes", [], played.facts.get("writes", []), 0)
        if step.do in ("anon-grow", "kernel-grow") and step.result and step.result >= 0:
            slack = int(step.result * 0.005) + PROCESS_SLACK + self.loose * PAGEBLOCK_PAGES
            slack += balance.between_marks(self.kernel) if self.cached else 0
            self._add(step, "pages taken", step.result, played.result, slack)

    def compare(self, step: Step, played: Played, model: dict[str, Any]) -> None:
        """Hold every counter of a snapshot."""
        kernel = step.after or {}
        self._exhaustion(step, kernel, model)
        self._full_node(kernel, model, played)
        self._cut_short(step, played)
        self._free_later(step, played)
        self._pools(step, kernel, model)
        placed = self._memory(step, kernel, model)
        self._zones(step, kernel, model, placed)
        for block, state in kernel["memory_blocks"].items():
            recorded = None if state == GONE else state
            self._add(step, f"memory{block}", recorded, model["memory_blocks"].get(block), 0)
        self._reported(step, kernel, model)
        self.model, self.kernel = model, kernel
        self.processes = self.freed = 0

    # -- the rules ---------------------------------------------------------------------------------------

    def _exhaustion(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> None:
        """Asked for more than fits, both end within 1 %; until a number that both reach."""
        asked = _asked(step)
        if asked is None:
            self._run_away(step, kernel, model)
            return
        self.working = 0  # a write waits for the worker
        size, count, node = asked
        recorded, modelled = _nr(kernel, size, node), _nr(model, size, node)
        self._tried_once(step, max(0, _nr(self.kernel, size, node) - count))
        grew = recorded > _nr(self.kernel, size, node)
        if count > max(recorded, modelled) and (grew or self.loose):
            self.loose = max(
                self.loose, _exhausted(recorded) + (0 if node is None else _on_lists(kernel, node))
            )
        elif recorded == modelled == count and _surplus(kernel) == _surplus(model):
            self.loose = 0

    def _tried_once(self, step: Step, freed: int) -> None:
        """Restores that reclaim once, under page cache and below min: how many fail depends on kswapd at their side."""
        once = profile_of(self.trace.kernel).restore_tries_once
        if step.do == "squeeze" and once and balance.has_cache(self.kernel):
            self.loose += freed

    def _full_node(self, kernel: dict[str, Any], model: dict[str, Any], played: Played) -> None:
        """How a write that finds a node full splits between the nodes is placement, until both sides agree again."""
        nodes = kernel.get("node_hugepages", {})
        if len(nodes) > 1 and played.facts.get("full_nodes"):
            self.split = max(
                max(SMALL_SPLIT, _exhausted(_nr(kernel, SIZE, n))) + _on_lists(kernel, n) for n in nodes
            )
        elif all(_nr(kernel, SIZE, nid) == _nr(model, SIZE, nid) for nid in nodes):
            self.split = 0

    def _cut_short(self, step: Step, played: Played) -> None:
        """An offline without memory for restores dissolves as many pages as the lists of CPUs, where long, pay for."""
        self.short_lists = self.short_lists or any(path.endswith(HIGH_FRACTION) for path in _paths(step))
        refused = step.errno == played.errno == "ENOMEM" and not self.short_lists
        if refused and any(path.startswith(BLOCK_DIR) for path in _paths(step)):
            self.loose = max(self.loose, DISSOLVED_SLACK)

    def _run_away(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> None:
        """A range whose huge pages are replaced until no page is left grows the pool until memory is exhausted, too."""
        recorded = _all_nr(kernel)
        grew = recorded > _all_nr(self.kernel) and _all_nr(model) > _all_nr(self.model)
        if grew and any(path.endswith(RANGE_FILE) for path in _paths(step)):
            self.loose = max(self.loose, _exhausted(recorded))

    def _pools(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> None:
        """Exact, but after a growth to exhaustion, and while the worker may still be at work."""
        if _pool_files(kernel) in (_pool_files(model), _pool_files(self.kernel)):
            self.working = 0  # it has finished
        loose = max(self.loose, self.working, self._given_up(kernel, model))
        for size, files in kernel["hugepages"].items():
            for word, value in files.items():
                slack = loose if word in POOL_WORDS else 0
                self._add(step, f"{size}/{word}", value, model["hugepages"][size].get(word), slack)
        for nid, sizes in kernel.get("node_hugepages", {}).items():
            for size, files in sizes.items():
                for word, value in files.items():
                    got = model["node_hugepages"][nid][size].get(word)
                    self._add(step, f"node{nid}/{size}/{word}", value, got, max(loose, self.split))
        for word in ("nr_hugepages", "nr_overcommit_hugepages"):
            slack = loose if word == "nr_hugepages" else 0
            self._add(step, f"sysctl {word}", kernel["sysctl"][word], model["sysctl"][word], slack)
        torn = _is_torn(kernel)
        for word, unit in (*((word, 1) for word in MEMINFO_POOL), ("Hugetlb", 2048)):
            allowed = None if torn else loose * unit
            self._add(step, word, kernel["meminfo_kb"][word], model["meminfo_kb"][word], allowed)

    def _given_up(self, kernel: dict[str, Any], model: dict[str, Any]) -> int:
        """A worker that waits between restores can give up on some pages and free others seconds later.

        How many it gave up is left open, until both sides agree: pages that are no surplus are compared as ever.
        """
        if _pool_files(kernel) == _pool_files(model):
            self.waited_for = 0
        if not (self.waited_for and profile_of(self.trace.kernel).restore_waits):
            return 0
        same = all(_persistent(model, size) == _persistent(kernel, size) for size in kernel["hugepages"])
        return self.waited_for if same else 0

    def _reported(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> None:
        """Cgroups and hugetlbfs mounts: exact."""
        for path, sizes in kernel.get("cgroups", {}).items():
            for size, files in sizes.items():
                for word, value in files.items():
                    got = model["cgroups"].get(path, {}).get(size, {}).get(word)
                    self._add(step, f"cgroup {path} {size}.{word}", value, got, 0)
        for path, words in kernel.get("hugetlbfs", {}).items():
            for word, value in words.items():
                got = model["hugetlbfs"].get(path, {}).get(word)
                self._add(step, f"{path} {word}", value, got, 0)

    def _memory(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> int:
        """Changes of free memory and of MemTotal; answers the pages whose first optimisation is placement."""
        before_nr = _all_nr(self.model) - _all_nr(self.kernel)
        now_nr = _all_nr(model) - _all_nr(kernel)
        changed = abs(_all_nr(kernel) - _all_nr(self.kernel))
        placed = self._placement(step, kernel, model, changed)
        differing = PAGEBLOCK_PAGES * abs(now_nr - before_nr)
        recorded = balance.change(self.kernel, kernel, self.threshold) - self.slab
        self.slab = 0
        modelled = sum(model[word] - self.model[word] for word in ("free_plus_pcp_pages", "cache_pages"))
        slack = (
            self._noise(step, abs(recorded))
            + self._tables(max(changed, self._first_time(kernel)))
            + differing
        )
        slack += balance.in_the_reader_s_hand(self.kernel, kernel)
        slack += PAGEBLOCK_PAGES * self._given_up(kernel, model)
        slack += self._unseen_slab(step, modelled - recorded) + self._owed(modelled - recorded, slack)
        slack = max(slack, self._between(kernel, recorded, modelled))
        slack = max(slack, self._reclaiming(step, kernel, recorded, modelled))
        slack += self._settles(step, kernel, abs(modelled - recorded) - slack)
        self._add(step, "free_plus_pcp_pages change", recorded, modelled, slack)
        total = (kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        got = (model["meminfo_kb"]["MemTotal"] - self.model["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        placed += 8 * abs(now_nr - before_nr)
        self._add(step, "MemTotal change (pages)", total, got, placed)
        return placed

    def _free_later(self, step: Step, played: Played) -> None:
        """Count what is freed behind the caller's back: by the worker, and of a process that ended."""
        self.slab += played.slab
        if step.do == "write" and step.errno is None and _paths(step)[0].endswith(SWITCH):
            self.freeing = step.op["data"].strip() != "0"
        self.freed += played.released + (PROCESS_SLACK if step.do == "exit" else 0)
        self.working += played.released // PAGEBLOCK_PAGES
        self.waited_for += played.released // PAGEBLOCK_PAGES
        if step.do == "anon-shrink" and profile_of(self.trace.kernel).empty_page_tables_freed:
            self.freed += (played.result or 0) // PAGEBLOCK_PAGES  # page tables wait for a grace period

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

    def _settles(self, step: Step, kernel: dict[str, Any], missing: int) -> int:
        """A gap that memory plugged in or out explains: 12 pages each time, found now or later, but found once."""
        if self.hotplug or _is_hotplug(step) or kernel["memory_blocks"] != self.kernel["memory_blocks"]:
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

    def _between(self, kernel: dict[str, Any], balanced: int, modelled: int) -> int:
        """What the kernel's objects took may have been on a list before: right is what lies between both sums."""
        raw = balance.free_pages(kernel, self.threshold) - balance.free_pages(self.kernel, self.threshold)
        return abs(modelled - balanced) if min(raw, balanced) <= modelled <= max(raw, balanced) else 0

    def _reclaiming(self, step: Step, kernel: dict[str, Any], recorded: int, modelled: int) -> int:
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

    def _placement(self, step: Step, kernel: dict[str, Any], model: dict[str, Any], changed: int) -> int:
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

    def _zones(self, step: Step, kernel: dict[str, Any], model: dict[str, Any], placed: int) -> None:
        gap = max(_managed_gap(kernel, model), _managed_gap(self.kernel, self.model))
        for name, zone in kernel["zones"].items():
            mine = model["zones"].get(name)
            if mine is None or not zone["present"]:
                continue
            for word in ("present", "spanned"):
                self._add(step, f"{name} {word}", zone[word], mine[word], 0)
            recorded = zone["managed"] - self.kernel["zones"][name]["managed"]
            modelled = mine["managed"] - self.model["zones"][name]["managed"]
            self._add(step, f"{name} managed change", recorded, modelled, placed + 8 * self.split)
            boost = _boost(zone, mine)
            for word in WATERMARKS:
                self._add(step, f"{name} {word}", zone[word], mine[word], 1 + gap // 16 + boost)
            pairs = list(zip(zone["protection"][:4], mine["protection"], strict=True))
            worst = max(abs(a - b) for a, b in pairs)
            self._add(step, f"{name} protection", zone["protection"][:4], mine["protection"],
                      _protection_slack(gap), worst)  # fmt: skip

    # -- tolerances --------------------------------------------------------------------------------------

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

    def _first_time(self, kernel: dict[str, Any]) -> int:
        """Huge pages that were optimised for the first time, as MemTotal tells: pages that were replaced, too."""
        total = int(kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        return max(0, total) // profile_of(self.trace.kernel).boot_frames_freed(PAGEBLOCK_ORDER)

    def _tables(self, changed: int) -> int:
        """Page tables of sections touched for the first time: which sections is placement."""
        if not changed or not self.freeing:
            return 0
        return int(min(-(-changed // 64), max(1, self.sections // 50)))

    def _add(
        self, step: Step, name: str, kernel: Any, model: Any, slack: int | None, apart: int | None = None
    ) -> None:
        if kernel == model:
            verdict = "exact"
        elif slack is None:
            verdict = "within"
        elif apart is not None:
            verdict = "within" if apart <= slack else "off"
        elif isinstance(kernel, int) and isinstance(model, int) and abs(kernel - model) <= slack:
            verdict = "within"
        else:
            verdict = "off"
        self.rows.append(Row(step.index, name, kernel, model, verdict))


def _is_torn(kernel: dict[str, Any]) -> bool:
    """Whether the worker ran while a snapshot was read: sysfs, read first, and meminfo are of different moments."""
    size = f"{kernel['meminfo_kb']['Hugepagesize']}kB"
    return bool(kernel["meminfo_kb"]["HugePages_Total"] != kernel["hugepages"][size]["nr_hugepages"])


def _pool_files(counters: dict[str, Any]) -> Any:
    return counters["hugepages"], counters.get("node_hugepages")


def _exhausted(recorded: int) -> int:
    """By how many huge pages two growths to exhaustion may differ."""
    return max(1, int(recorded * EXHAUSTION))


def _on_lists(kernel: dict[str, Any], nid: str) -> int:
    """Huge pages that the lists of CPUs of a node hold the memory of."""
    zones = kernel["zones"].items()
    return int(sum(zone["pcp"] for name, zone in zones if name.split("/")[0] == nid)) // PAGEBLOCK_PAGES


def _paths(step: Step) -> list[str]:
    """Files that a step writes."""
    written = step.op["writes"] if step.do == "writes" else [step.op]
    return [str(one.get("path", "")) for one in written]


def _is_hotplug(step: Step) -> bool:
    """Whether a step plugs memory in or out, switches a block, or drains all lists with watermarks raised."""
    states = any(path.startswith(BLOCK_DIR) for path in _paths(step))
    return step.do in ("virtio-mem", "squeeze") or "outside" in step.op or states


def _boost(kernel: dict[str, Any], model: dict[str, Any]) -> int:
    """By how much a zone's watermarks are boosted: whole pageblocks, or the most there is; 0: they are not.

    The allocator boosts them when it steals a pageblock, until kswapd has worked, which here is no rule.
    Source: mm/page_alloc.c boost_watermark() (5.14).
    """
    shifts = [kernel[word] - model[word] for word in WATERMARKS]
    most = model["high"] * 3 // 2
    blocks = shifts[0] + 1 >= PAGEBLOCK_PAGES and (shifts[0] + 1) % PAGEBLOCK_PAGES <= BOOST_SLACK
    same = max(shifts) - min(shifts) <= BOOST_SLACK
    return shifts[0] if same and (blocks or abs(shifts[0] - most) <= BOOST_SLACK) else 0


def _managed_gap(kernel: dict[str, Any], model: dict[str, Any]) -> int:
    """How far managed pages of all zones are apart, from placement."""
    zones = kernel["zones"].items()
    return sum(
        abs(zone["managed"] - model["zones"][name]["managed"]) for name, zone in zones if zone["present"]
    )


def _protection_slack(gap: int) -> int:
    """Reserves are managed pages of the zones above divided by 32 or 256."""
    return -(-gap // 32) if gap else 0


def _nr(counters: dict[str, Any], size: str, node: str | None) -> int:
    if node is None:
        return int(counters["hugepages"][size]["nr_hugepages"])
    return int(counters["node_hugepages"][node][size]["nr_hugepages"])


def _all_nr(counters: dict[str, Any]) -> int:
    """Pages of all pools in units of 2 MiB."""
    sizes = counters["hugepages"]
    return int(sizes["2048kB"]["nr_hugepages"]) + BLOCKS_PER_1G * int(
        sizes.get("1048576kB", {}).get("nr_hugepages", 0)
    )


def _surplus(counters: dict[str, Any]) -> dict[str, int]:
    """Surplus pages by size: a defect can leave some of a pool that is gone."""
    return {size: files["surplus_hugepages"] for size, files in counters["hugepages"].items()}


def _persistent(counters: dict[str, Any], size: str) -> int:
    """Pages of a size that are no surplus."""
    files = counters["hugepages"][size]
    return int(files["nr_hugepages"] - files["surplus_hugepages"])


def _asked(step: Step) -> tuple[str, int, str | None] | None:
    """Size, count and node of a pool write."""
    if step.do not in ("write", "squeeze"):
        return None
    path, data = step.op["path"], step.op["data"].strip()
    if not path.endswith(("nr_hugepages", "nr_hugepages_mempolicy")) or not data.isdigit():
        return None
    size = "2048kB" if path.startswith("/proc/") else path.rsplit("/", 2)[1].removeprefix("hugepages-")
    node = path.split("/node/node")[1].split("/")[0] if "/node/node" in path else None
    return size, int(data), node
