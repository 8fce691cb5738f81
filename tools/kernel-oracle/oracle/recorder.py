"""Recording: boot a machine, perform steps, keep what the kernel answered (docs/recordings.md)."""

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oracle import kinds, snapshot, steps
from oracle.guest import Guest, GuestGone
from oracle.kernels import OracleError, say
from oracle.machine import Machine

__all__ = ["STEP_WORDS", "Recorder", "kinds", "record"]  # importing the kinds enters them in the table

TELLING = re.compile(  # lines of the kernel's log that are kept
    r"huge|memory|zone|offline|online|vmemmap|page alloc|oom|killed|migrat|isolat|cma|memblock|dump|page:|Mem-Info"
    r"|Node \d|panic|BUG",
    re.IGNORECASE,
)
STEP_WORDS = ("label", "after", "timeout_s", "where")
STEP_SECONDS = 120.0
BOOT_SECONDS = 180.0
SNAPSHOTS = {"full": "", "cached": "d", "lean": "l"}  # the agent's words


class Recorder:
    """Performs steps on a booted guest and keeps them.

    Attributes:
        guest: the running guest.
        trace: the recording.
        last: the counters of the last snapshot.
    """

    def __init__(self, guest: Guest, name: str, note: str, deadline: float) -> None:
        self.guest, self._deadline = guest, deadline
        self._started = time.monotonic()
        release = guest.call("read", "/proc/sys/kernel/osrelease").text.strip()
        self.trace = _empty(guest.machine, name, note, release)
        if guest.machine.disk and (reply := guest.call("disk")).result < 0:
            raise OracleError(f"the guest cannot use its disk: errno {reply.errno}")
        self._read_out("full")  # the first read-out fills caches, the second counts
        read = self._read_out("full")
        self.last = snapshot.counters(read)
        files = snapshot.boot_files(read, guest.machine.whole_cmdline)
        self.trace["boot"] = {"files": files, "counters": self.last}
        for _ in range(2):  # the noise: nothing happens, nothing should move
            self.step({"do": "wait", "ms": 500, "label": "idle"})

    def step(self, step: dict[str, Any]) -> dict[str, Any]:
        """Perform one step; the row as it is recorded.

        A step can have, besides the fields of its kind: ``label``; ``after``, the snapshot (full; cached, which drops
        no caches; lean, which does not bring the statistics up to date either; none); ``timeout_s``; and for a path
        ``memory*/…`` ``where``, which says what memory block is meant.

        Raises:
            OracleError: the step is wrong, or there is no such block.
            GuestGone: the guest ended, or the time is used up.
        """
        words = {name: step[name] for name in STEP_WORDS if name in step}
        asked = {name: value for name, value in step.items() if name not in STEP_WORDS}
        if "where" in words:
            asked["path"] = asked["path"].replace("memory*", self._block(words["where"]))
        began = time.monotonic()
        if began >= self._deadline:
            raise GuestGone("the time for the whole recording is used up")
        seconds = min(self._deadline - began, words.get("timeout_s", STEP_SECONDS))
        op, answer = steps.perform(self.guest, asked, seconds)
        label = words.get("label", op.pop("label", None))
        row: dict[str, Any] = {"op": op, "result": answer.result, "errno": answer.errno}
        if label:
            row["label"] = label
        after = words.get("after", "full" if steps.KINDS[step["do"]].reads_out else "none")
        if after != "none":
            self.last = row["after"] = snapshot.counters(self._read_out(after))
        self.trace["steps"].append(row)
        self._say(row, began)
        return row

    def _say(self, row: dict[str, Any], began: float) -> None:
        now, number = time.monotonic(), len(self.trace["steps"])
        say(f"{now - self._started:7.1f}s {number:4} {_line(row)} ({now - began:.1f}s)")

    def _block(self, where: dict[str, Any]) -> str:
        blocks = self.blocks(where)
        if not blocks:
            raise OracleError(f"no memory block is {where}")
        return blocks[0]

    def blocks(self, where: dict[str, Any]) -> list[str]:
        """The memory blocks that are meant: in ``state`` (online), first of a ``zone``, with ``hugehead`` huge pages
        (a number, min or max)."""
        pages: dict[str, dict[str, int]] = self.step({"do": "observe", "what": "pages-by-block"})["op"][
            "data"
        ]
        heads = {}
        for number, state in self.last["memory_blocks"].items():
            if state != where.get("state", "online"):
                continue
            path = f"/sys/devices/system/memory/memory{number}/valid_zones"
            zone = self.guest.call("read", path).text.split()[0]
            if zone == where.get("zone", zone):
                heads[f"memory{number}"] = pages.get(f"memory{number}", {}).get("hugehead", 0)
        wanted = where.get("hugehead")
        if heads and wanted in {"min", "max"}:
            wanted = (min if wanted == "min" else max)(heads.values())
        return [name for name, count in heads.items() if wanted in {None, count}]

    def finish(self) -> None:
        """Keep the kernel's log."""
        self.keep_log(self.guest.call("dmesg").text.splitlines())

    def keep_log(self, lines: list[str]) -> None:
        """Keep the lines that matter."""
        self.trace["dmesg"] = [line for line in lines if TELLING.search(line)]

    def _read_out(self, kind: str) -> snapshot.Files:
        if kind not in SNAPSHOTS:
            raise OracleError(f"after is one of {', '.join(SNAPSHOTS)}, none, not {kind!r}")
        return snapshot.files(self.guest.call("snap", SNAPSHOTS[kind]).blobs)


def record(
    machine: Machine, name: str, note: str, drive: Callable[[Recorder], None], out: Path, seconds: float
) -> bool:
    """Boot, have ``drive`` perform its steps, and write the recording; whether the guest lived to its end."""
    deadline = time.monotonic() + seconds
    say(f"booting {machine.kernel}, vmemmap freeing {'on' if machine.hvo else 'off'}, {machine.memory} …")
    try:
        guest = Guest(machine, min(seconds, BOOT_SECONDS))
    except GuestGone as loss:
        _save(_empty(machine, name, f"{note} {loss}".strip(), machine.kernel), out)
        say(f"the guest did not come up: {loss}")
        return False
    with guest:
        say(f"booted in {guest.boot_seconds:.1f} s")
        recorder = Recorder(guest, name, note, deadline)
        try:
            drive(recorder)
            recorder.finish()
        except GuestGone as loss:
            recorder.keep_log(guest.console())
            say(f"ended early, {len(recorder.trace['steps'])} steps recorded: {loss}")
            return False
        finally:
            _save(recorder.trace, out)
    return True


def _empty(machine: Machine, name: str, note: str, release: str) -> dict[str, Any]:
    found = re.match(r"\d+\.\d+", release)
    kernel = found[0] if found else release
    return {
        "format": 1,
        "name": f"{name}-{kernel}-HVO{'on' if machine.hvo else 'off'}",
        "kernel": kernel,
        "release": release,
        "cmdline": machine.whole_cmdline,
        "memory": machine.memory_option,
        "machine": machine.devices,
        "note": note,
        "vmemmap_freeing": machine.hvo,
        "boot": None,
        "steps": [],
        "dmesg": [],
    }


def _save(trace: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(trace, separators=(",", ":")).encode()
    out.write_bytes(gzip.compress(data, mtime=0) if out.suffix == ".gz" else data)
    say(f"wrote {out}: {len(trace['steps'])} steps")


def _line(row: dict[str, Any]) -> str:
    """A row in one line: what was asked, what was answered, and the pools that have pages."""
    op = row["op"]
    answered = {"do", "observed", "writes"} | (set() if op["do"] == "write" else {"data"})
    fields = {name: value for name, value in op.items() if name not in answered}
    words = " ".join(
        str(value) if name in {"path", "data"} else f"{name}={value}" for name, value in fields.items()
    )
    for folder in ("/sys/kernel/mm/hugepages/", "/sys/devices/system/"):
        words = words.replace(folder, "")
    parts = [f"{op['do']} {words} -> {row['result']} {row['errno'] or ''}".rstrip()]
    for size, pool in row.get("after", {}).get("hugepages", {}).items():
        if pool["nr_hugepages"]:
            counts = [f"{word}={pool[f'{word}_hugepages']}" for word in ("nr", "free", "resv", "surplus")]
            parts.append(f"{size} {' '.join(counts)}")
    return " | ".join(parts)
