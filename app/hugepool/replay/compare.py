"""Holding the model's counters against a recording's: ``RULES`` is the table of what is compared, and how closely.

Exact means equal.  Everything else is a stated tolerance with a reason (``allowances``).  Changes of free memory are
compared step by step, so an error cannot hide in an old one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hugepool.mm.machine.units import KB_PER_PAGE, PAGEBLOCK_PAGES
from hugepool.replay import balance
from hugepool.replay.allowances import PROCESS_SLACK, Allowances, Counters
from hugepool.replay.played import Played
from hugepool.replay.reading import (
    MAPPING_STEPS,
    PROCESS_STEPS,
    TOUCHING_STEPS,
    WATERMARKS,
    boosted,
    is_hotplug,
    is_torn,
    managed_gap,
    protection_slack,
)
from hugepool.replay.trace import GONE, Step

POOL_WORDS = (
    "nr_hugepages",
    "nr_hugepages_mempolicy",
    "free_hugepages",
    "resv_hugepages",
    "surplus_hugepages",
)
MEMINFO_POOL = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")
SILENT_STEPS = ("wait", "observe", "read", "setup")  # without a result of their own


@dataclass(frozen=True, slots=True)
class Row:
    """One counter after one step: ``verdict`` is exact, within or off."""

    step: int
    counter: str
    kernel: Any
    model: Any
    verdict: str


@dataclass(slots=True)
class Comparator(Allowances):
    """Holds every counter after each step, as ``RULES`` has them."""

    rows: list[Row] = field(default_factory=list)

    def skip(self, step: Step, played: Played) -> None:
        """A step without a snapshot: remember what it may have moved."""
        self.free_later(step, played)
        self.hotplug = self.hotplug or is_hotplug(step)
        if step.do in PROCESS_STEPS or step.do in MAPPING_STEPS:
            self.processes += 1

    def result(self, step: Step, played: Played) -> None:
        """Hold what a call answered."""
        for rule in CALLS:
            rule.hold(self, step, played)

    def compare(self, step: Step, played: Played, model: Counters) -> None:
        """Hold every counter of a snapshot."""
        kernel = step.after or {}
        self.note_exhaustion(step, kernel, model)
        self.note_full_node(kernel, model, played)
        self.note_cut_short(step, played)
        self.free_later(step, played)
        for rule in RULES:
            rule.hold(self, step, kernel, model)
        self.model, self.kernel = model, kernel
        self.processes = self.freed = 0

    # -- calls -------------------------------------------------------------------------------------------

    def text(self, step: Step, played: Played) -> None:
        """What a file reads."""
        if played.data is not None:
            self._add(step, "text", step.op.get("data"), played.data, 0)

    def errno(self, step: Step, played: Played) -> None:
        """Whether the call was refused, and with which error."""
        if step.do not in SILENT_STEPS:
            self._add(step, "errno", step.errno, played.errno, 0)
        if step.do == "writes":
            self._add(step, "writes", [], played.facts.get("writes", []), 0)

    def file(self, step: Step, played: Played) -> None:
        """Size and blocks of a file on hugetlbfs."""
        if step.op.get("file") is not None and step.do == "huge-file":
            self._add(step, "file", step.op["file"], played.file, 0)

    def touched(self, step: Step, played: Played) -> None:
        """Pages before a signal, and the signal."""
        if step.do in TOUCHING_STEPS:
            self._add(step, "touched", step.result, played.result, self.loose)
            self._add(step, "signal", step.op.get("signal"), played.signal, 0 if not self.loose else None)

    def taken(self, step: Step, played: Played) -> None:
        """Single pages that a process took until a condition held: page tables and slab are in them or not."""
        if step.do in ("anon-grow", "kernel-grow") and step.result and step.result >= 0:
            slack = int(step.result * 0.005) + PROCESS_SLACK + self.loose * PAGEBLOCK_PAGES
            slack += balance.between_marks(self.kernel) if self.cached else 0
            self._add(step, "pages taken", step.result, played.result, slack)

    # -- snapshots ---------------------------------------------------------------------------------------

    def pools(self, step: Step, kernel: Counters, model: Counters) -> None:
        """Every file of every pool, the sysctl files, and what meminfo says of them."""
        loose = self.pool_slack(kernel, model)
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
        torn = is_torn(kernel)
        for word, unit in (*((word, 1) for word in MEMINFO_POOL), ("Hugetlb", 2048)):
            allowed = None if torn else loose * unit
            self._add(step, word, kernel["meminfo_kb"][word], model["meminfo_kb"][word], allowed)

    def free_memory(self, step: Step, kernel: Counters, model: Counters) -> None:
        """The change of free memory, lists of CPUs included."""
        recorded = balance.change(self.kernel, kernel, self.threshold) - self.slab
        self.slab = 0
        modelled = sum(model[word] - self.model[word] for word in ("free_plus_pcp_pages", "cache_pages"))
        slack = self.free_memory_slack(step, kernel, model, recorded, modelled)
        self._add(step, "free_plus_pcp_pages change", recorded, modelled, slack)

    def mem_total(self, step: Step, kernel: Counters, model: Counters) -> None:
        """The change of MemTotal: which pages are optimised for the first time is placement."""
        recorded = (kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        modelled = (model["meminfo_kb"]["MemTotal"] - self.model["meminfo_kb"]["MemTotal"]) // KB_PER_PAGE
        self.placed = self.placement(step, kernel, model)
        self._add(step, "MemTotal change (pages)", recorded, modelled, self.placed)

    def zones(self, step: Step, kernel: Counters, model: Counters) -> None:
        """Sizes, watermarks and reserves of every zone that has memory."""
        gap = max(managed_gap(kernel, model), managed_gap(self.kernel, self.model))
        for name, zone in kernel["zones"].items():
            mine = model["zones"].get(name)
            if mine is None or not zone["present"]:
                continue
            for word in ("present", "spanned"):
                self._add(step, f"{name} {word}", zone[word], mine[word], 0)
            recorded = zone["managed"] - self.kernel["zones"][name]["managed"]
            modelled = mine["managed"] - self.model["zones"][name]["managed"]
            self._add(step, f"{name} managed change", recorded, modelled, self.placed + 8 * self.split)
            boost = boosted(zone, mine)
            for word in WATERMARKS:
                self._add(step, f"{name} {word}", zone[word], mine[word], 1 + gap // 16 + boost)
            pairs = list(zip(zone["protection"][:4], mine["protection"], strict=True))
            worst = max(abs(a - b) for a, b in pairs)
            self._add(step, f"{name} protection", zone["protection"][:4], mine["protection"],
                      protection_slack(gap), worst)  # fmt: skip

    def blocks(self, step: Step, kernel: Counters, model: Counters) -> None:
        """States of memory blocks; one that went away while it was read is gone."""
        for block, state in kernel["memory_blocks"].items():
            recorded = None if state == GONE else state
            self._add(step, f"memory{block}", recorded, model["memory_blocks"].get(block), 0)

    def groups(self, step: Step, kernel: Counters, model: Counters) -> None:
        """Files of cgroups, and what statfs says of hugetlbfs mounts."""
        for path, sizes in kernel.get("cgroups", {}).items():
            for size, files in sizes.items():
                for word, value in files.items():
                    got = model["cgroups"].get(path, {}).get(size, {}).get(word)
                    self._add(step, f"cgroup {path} {size}.{word}", value, got, 0)
        for path, words in kernel.get("hugetlbfs", {}).items():
            for word, value in words.items():
                got = model["hugetlbfs"].get(path, {}).get(word)
                self._add(step, f"{path} {word}", value, got, 0)

    # -- verdicts ----------------------------------------------------------------------------------------

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


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: which counters, how closely in words, and what holds them."""

    counters: str
    closely: str
    hold: Callable[..., None]


CALLS = (
    Rule("result < 0 or not, errno", "exact", Comparator.errno),
    Rule("text of a file that is read", "exact", Comparator.text),
    Rule("size and blocks of a hugetlbfs file", "exact", Comparator.file),
    Rule("pages touched, signal", "exact; after a growth to exhaustion within its 1 %", Comparator.touched),
    Rule(
        "pages that a process took", "0.5 % + 64, and where kswapd stopped under page cache", Comparator.taken
    ),
)
RULES = (
    Rule(
        "files of pools, on nodes too; sysctl nr_hugepages, nr_overcommit_hugepages; HugePages_*, Hugetlb",
        "exact; within 1 % after a growth to exhaustion or a full node, while the worker is at work",
        Comparator.pools,
    ),
    Rule(
        "change of free_plus_pcp_pages",
        "exact once slab is balanced, but for page tables of sections, processes, a second processor, hotplug",
        Comparator.free_memory,
    ),
    Rule(
        "change of MemTotal",
        "exact where all or none of the pages were optimised for the first time, else by placement",
        Comparator.mem_total,
    ),
    Rule(
        "zones: present, spanned, managed; min, low, high; protection",
        "exact; managed as MemTotal, watermarks within 1, both and the reserves as far as managed differs",
        Comparator.zones,
    ),
    Rule("states of memory blocks", "exact", Comparator.blocks),
    Rule("cgroups, hugetlbfs mounts", "exact", Comparator.groups),
)
