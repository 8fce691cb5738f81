"""Holding the model's counters against a recording's, each by its own rule.

Exact means equal.  Everything else is a stated tolerance with a reason: recorded noise, placement, page tables of
processes, a pool grown until memory ran out.  Changes of free memory are compared step by step, so an error
cannot hide in an old one.
"""

from dataclasses import dataclass, field
from typing import Any

from app.replay.player import Played
from app.replay.trace import Step, Trace

PROCESS_STEPS = ("start", "exit", "anon-grow", "anon-shrink", "anon-map", "kernel-grow", "kernel-shrink",
                 "kernel-map", "kernel-thin", "mempolicy")  # fmt: skip
MAPPING_STEPS = ("huge-map", "huge-touch", "huge-unmap", "huge-file-allocate", "unlink")
PROCESS_SLACK = 64  # page tables and slab of a process
TWO_CPU_SLACK = 15  # per-CPU lists and counters of a second processor
STAT_SLACK = 12  # per-CPU differences of NR_FREE_PAGES: zoneinfo's "vm stats threshold" of these guests
PROBE_SLACK = 32  # buffers of the recorder itself (debugfs, /proc) after a probe without a snapshot
UNMODELLED = ("Slab", "VmallocUsed", "Cached")  # meminfo: kernel objects, kernel stacks, files in memory
EXHAUSTION = 0.01
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
    ``late``: pages the recorded worker still owed at the last snapshot.
    """

    trace: Trace
    sections: int
    model: dict[str, Any]
    kernel: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    loose: int = 0
    late: int = 0
    probes: int = 0
    processes: int = 0
    idle: int = 0

    def __post_init__(self) -> None:
        """The guest's own noise: what its free pages moved by while it did nothing."""
        last = self.kernel
        for step in self.trace.steps:
            if step.after is not None:
                moved = abs(step.after["free_plus_pcp_pages"] - last["free_plus_pcp_pages"])
                self.idle = max(self.idle, moved if step.do == "wait" and moved <= PROBE_SLACK else 0)
                last = step.after

    def skip(self, step: Step) -> None:
        """A step without a snapshot: remember what it may have moved."""
        if step.do in ("read", "observe", "setup", "wait", "write", "writes"):
            self.probes += 1
        if step.do in PROCESS_STEPS or step.do in MAPPING_STEPS:
            self.processes += 1

    def result(self, step: Step, played: Played) -> None:
        """Hold the call's result and errno."""
        if step.do in ("wait", "observe", "read", "setup"):
            return
        self._add(step, "errno", step.errno, played.errno, 0)
        if step.do == "huge-touch":
            self._add(step, "touched", step.result, played.result, self.loose)
            self._add(step, "signal", step.op.get("signal"), played.signal, 0 if not self.loose else None)
        if step.do == "writes":
            self._add(step, "writes", [], played.facts.get("writes", []), 0)
        if step.do in ("anon-grow", "kernel-grow") and step.result and step.result >= 0:
            slack = int(step.result * 0.005) + PROCESS_SLACK + self.loose * 512
            self._add(step, "pages taken", step.result, played.result, slack)

    def compare(self, step: Step, played: Played, model: dict[str, Any]) -> None:
        """Hold every counter of a snapshot."""
        kernel = step.after or {}
        self._exhaustion(step, kernel, model)
        self._pools(step, kernel, model)
        placed = self._memory(step, played, kernel, model)
        self._zones(step, kernel, model, placed)
        for block, state in kernel["memory_blocks"].items():
            self._add(step, f"memory{block}", state, model["memory_blocks"].get(block), 0)
        self.model, self.kernel = model, kernel
        self.probes = self.processes = 0

    # -- the rules ---------------------------------------------------------------------------------------

    def _exhaustion(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> None:
        """Asked for more than fits, both end within 1 %; until a number that both reach."""
        asked = _asked(step)
        if asked is None:
            return
        size, count, node = asked
        recorded, modelled = _nr(kernel, size, node), _nr(model, size, node)
        grew = recorded > _nr(self.kernel, size, node)
        if count > max(recorded, modelled) and (grew or self.loose):
            self.loose = max(self.loose, -(-int(recorded * EXHAUSTION * 100) // 100), 1)
        elif recorded == modelled == count:
            self.loose = 0

    def _pools(self, step: Step, kernel: dict[str, Any], model: dict[str, Any]) -> None:
        for size, files in kernel["hugepages"].items():
            for word, value in files.items():
                slack = self.loose if word in POOL_WORDS else 0
                self._add(step, f"{size}/{word}", value, model["hugepages"][size].get(word), slack)
        for nid, sizes in kernel.get("node_hugepages", {}).items():
            for size, files in sizes.items():
                for word, value in files.items():
                    got = model["node_hugepages"][nid][size].get(word)
                    self._add(step, f"node{nid}/{size}/{word}", value, got, self.loose)
        for word in ("nr_hugepages", "nr_overcommit_hugepages"):
            slack = self.loose if word == "nr_hugepages" else 0
            self._add(step, f"sysctl {word}", kernel["sysctl"][word], model["sysctl"][word], slack)
        for word in MEMINFO_POOL:
            self._add(step, word, kernel["meminfo_kb"][word], model["meminfo_kb"][word], self.loose)
        self._add(step, "Hugetlb", kernel["meminfo_kb"]["Hugetlb"], model["meminfo_kb"]["Hugetlb"],
                  self.loose * 2048)  # fmt: skip

    def _memory(self, step: Step, played: Played, kernel: dict[str, Any], model: dict[str, Any]) -> int:
        """Changes of free memory and of MemTotal; answers the pages whose first optimisation is placement."""
        before_nr = _all_nr(self.model) - _all_nr(self.kernel)
        now_nr = _all_nr(model) - _all_nr(kernel)
        changed = abs(_all_nr(kernel) - _all_nr(self.kernel))
        placed = self._placement(step, kernel, model, changed)
        differing = 512 * abs(now_nr - before_nr)
        recorded = _balance(kernel) - _balance(self.kernel)
        modelled = model["free_plus_pcp_pages"] - self.model["free_plus_pcp_pages"]
        owed = self._owed(played, recorded, modelled)
        slack = self._noise(step, abs(recorded)) + self._tables(changed) + differing + owed
        self._add(step, "free_plus_pcp_pages change", recorded, modelled, slack)
        total = (kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // 4
        got = (model["meminfo_kb"]["MemTotal"] - self.model["meminfo_kb"]["MemTotal"]) // 4
        placed += 8 * abs(now_nr - before_nr)
        self._add(step, "MemTotal change (pages)", total, got, placed)
        return placed

    def _owed(self, played: Played, recorded: int, modelled: int) -> int:
        """Frees that the recorded worker does later: the model has them now."""
        owed = self.late
        gap = modelled - recorded
        if played.released and gap > 0:
            self.late += gap
            return owed + played.released
        if self.late:
            self.late = max(0, self.late + gap)
        return owed

    def _placement(self, step: Step, kernel: dict[str, Any], model: dict[str, Any], changed: int) -> int:
        """MemTotal: exact when all or none of the pages were optimised for the first time."""
        if not self.trace.vmemmap_freeing:
            return 0
        per = _FRESH[self.trace.kernel]
        total = (kernel["meminfo_kb"]["MemTotal"] - self.kernel["meminfo_kb"]["MemTotal"]) // 4
        got = (model["meminfo_kb"]["MemTotal"] - self.model["meminfo_kb"]["MemTotal"]) // 4
        made = max(changed, 0)
        all_or_none = (0, made * per)
        if total in all_or_none and got in all_or_none and step.do in ("write", "wait"):
            return 0 if total == got else made * per
        return int(per * made + abs(total))

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
            self._add(step, f"{name} managed change", recorded, modelled, placed)
            for word in WATERMARKS:
                self._add(step, f"{name} {word}", zone[word], mine[word], 1 + gap // 16)
            pairs = list(zip(zone["protection"][:4], mine["protection"], strict=True))
            worst = max(abs(a - b) for a, b in pairs)
            self._add(step, f"{name} protection", zone["protection"][:4], mine["protection"],
                      _protection_slack(gap), worst)  # fmt: skip

    # -- tolerances --------------------------------------------------------------------------------------

    def _noise(self, step: Step, recorded: int) -> int:
        slack = max(self.idle, TWO_CPU_SLACK if self.trace.cpus > 1 else STAT_SLACK)
        if step.do in PROCESS_STEPS:
            slack += recorded // 200
        if step.do in PROCESS_STEPS or self.processes:
            slack += PROCESS_SLACK * max(1, self.processes)
        if step.do in MAPPING_STEPS:
            slack += PROCESS_SLACK
        if self.probes or "/memory/memory" in str(step.op.get("path")):
            slack += PROBE_SLACK
        return slack

    def _tables(self, changed: int) -> int:
        """Page tables of sections touched for the first time: which sections is placement."""
        if not changed or not self.trace.vmemmap_freeing:
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


_FRESH = {"5.14": 6, "6.1": 7, "6.12": 8}


def _balance(kernel: dict[str, Any]) -> int:
    """Recorded free pages, and those in use for what the model has no rule for.

    Lists in buddyinfo are counted as they are; MemFree and zoneinfo leave out what each processor has not folded in.
    """
    lists = kernel["buddyinfo"].values()
    free = sum(blocks << order for counts in lists for order, blocks in enumerate(counts))
    meminfo = kernel["meminfo_kb"]
    return int(free + kernel["pcp_pages"] + sum(meminfo[word] // 4 for word in UNMODELLED))


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
    return int(sizes["2048kB"]["nr_hugepages"]) + 512 * int(sizes.get("1048576kB", {}).get("nr_hugepages", 0))


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
