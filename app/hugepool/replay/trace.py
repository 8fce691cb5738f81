"""Reading a recording: one guest, its boot snapshot and its steps (format 1)."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hugepool.mm.machine.errors import BadInput

MAX_TRACE_BYTES = 256 << 20
GONE = "!errno=19"  # the state of a memory block that went away while it was read


@dataclass(slots=True)
class Step:
    """One step of a recording: what was done, its result, and the counters after it (None: not read)."""

    index: int
    op: dict[str, Any]
    result: int | None
    errno: str | None
    label: str
    after: dict[str, Any] | None

    @property
    def do(self) -> str:
        """The kind of the step."""
        return str(self.op["do"])


@dataclass(slots=True)
class Trace:
    """A recording.  ``files`` is None when the guest did not come up; ``memory``, ``machine``: options of QEMU."""

    name: str
    kernel: str
    cmdline: str
    vmemmap_freeing: bool
    memory: str
    machine: list[str]
    cpus: int
    files: dict[str, str] | None
    boot: dict[str, Any] | None
    steps: list[Step]


def load(path: Path) -> Trace:
    """Read a ``.json`` or ``.json.gz`` recording.

    Raises:
        BadInput: unreadable, too large, or not of format 1.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, MAX_TRACE_BYTES)
        data = json.loads(raw)
    except (OSError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"not a readable recording: {error}", where=str(path)) from None
    if not isinstance(data, dict) or data.get("format") != 1:
        raise BadInput("not a recording of format 1", where=str(path))
    return _trace(data)


def memory_blocks(counters: dict[str, Any]) -> dict[str, str]:
    """The memory blocks of a snapshot and their states, without those that are gone."""
    return {block: state for block, state in counters.get("memory_blocks", {}).items() if state != GONE}


def _trace(data: dict[str, Any]) -> Trace:
    boot = data.get("boot") or {}
    steps = [
        Step(i, s["op"], s.get("result"), s.get("errno"), s.get("label") or "", s.get("after"))
        for i, s in enumerate(data["steps"])
    ]
    cpus = 2 if any("cpus=1" in str(word) or "numa" in str(word) for word in data.get("machine", [])) else 1
    return Trace(
        data["name"],
        data["kernel"],
        data["cmdline"],
        bool(data["vmemmap_freeing"]),
        str(data.get("memory", "")),
        [str(word) for word in data.get("machine", [])],
        cpus,
        boot.get("files"),
        boot.get("counters"),
        steps,
    )
