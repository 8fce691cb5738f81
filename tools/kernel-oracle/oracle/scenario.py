"""Scenario files: YAML or JSON; or a recording, whose steps are performed again."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import yaml

from oracle.kernels import OracleError
from oracle.machine import CMDLINE
from oracle.recorder import STEP_WORDS
from oracle.steps import checked

WORDS = {"name", "note", "memory", "numa", "dimms", "cmdline", "qemu_machine", "disk", "steps"}


def load(path: Path) -> dict[str, Any]:
    """Read a scenario and check every step, so that a mistake is reported before anything boots.

    Raises:
        OracleError: not readable, not a scenario, or a step is wrong.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, ValueError) as error:
        raise OracleError(f"{path}: {error}") from None
    data = _json(path, text) if ".json" in path.suffixes else _yaml(path, text)
    if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
        raise OracleError(f"{path}: a scenario is a mapping with a list of steps")
    if data.get("format") == 1:
        data = _of_recording(data)
    if unknown := data.keys() - WORDS:
        raise OracleError(f"{path}: unknown {', '.join(sorted(unknown))} (known: {', '.join(sorted(WORDS))})")
    for step in data["steps"]:
        checked({k: v for k, v in step.items() if k not in STEP_WORDS} if isinstance(step, dict) else step)
    return {"name": path.name.split(".")[0], **data}


def _of_recording(data: dict[str, Any]) -> dict[str, Any]:
    """The machine and the steps of a recording, without what the kernel answered."""
    options = " ".join(data["machine"])
    machine = re.search(r"-machine (\S+)", options)
    disk = re.search(r"id=disk,format=raw,size=(\w+)", options)
    return {
        "name": data["name"].split("-")[0],
        "note": data["note"],
        "memory": data["memory"].split(",")[0],
        "numa": re.findall(r"memory-backend-ram,size=(\w+),id=m\d", options),
        "dimms": re.findall(r"memory-backend-ram,id=d\d,size=(\w+)", options),
        "cmdline": " ".join(word for word in data["cmdline"].split() if not _usual(word)),
        "qemu_machine": machine[1] if machine else "pc",
        "disk": disk[1] if disk else "",
        "steps": [_asked(row) for row in data["steps"] if not _belongs_to_the_recorder(row)],
    }


def _belongs_to_the_recorder(row: dict[str, Any]) -> bool:
    return row["op"]["do"] in {"setup", "other"} or row.get("label") == "idle"


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    """A recorded row as a step.  Plugging is recorded as a wait."""
    outside = row["op"].get("outside", {})
    plugging = [{"do": what, "dimm": outside[what]} for what in ("plug", "unplug") if what in outside]
    label = {"label": row["label"]} if "label" in row else {}
    return {
        **(plugging[0] if plugging else row["op"]),
        "after": "full" if "after" in row else "none",
        **label,
    }


def _usual(word: str) -> bool:
    return word in CMDLINE.split() or word.startswith("hugetlb_free_vmemmap=")


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise OracleError(f"{path}: {error}") from None


def _yaml(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OracleError(f"{path}: {error}") from None
