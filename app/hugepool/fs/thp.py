"""The files of ``/sys/kernel/mm/transparent_hugepage``: what they take and show.

They can be set and read back, as programs and their installers do.  Transparent huge pages themselves are not modelled.

Source: mm/huge_memory.c enabled_store(), defrag_store(); mm/shmem.c shmem_enabled_store(); mm/khugepaged.c (5.14).
"""

from dataclasses import dataclass

from hugepool.fs import parse
from hugepool.mm.machine.state import Host

FOLDER = "/sys/kernel/mm/transparent_hugepage"
COMMAND_LINE = "transparent_hugepage="
UINT_MAX = (1 << 32) - 1
MAX_PTES = 511  # of 512 small pages at least one is there
FIXED = {
    "hpage_pmd_size": "2097152",
    "khugepaged/full_scans": "0",
    "khugepaged/pages_collapsed": "0",
}


@dataclass(frozen=True, slots=True)
class Words:
    """A file with one word of several in brackets; ``first`` is chosen when nobody wrote."""

    words: tuple[str, ...]
    first: str

    def taken(self, data: bytes) -> str:
        """The word that a write chooses.  Raises MMError EINVAL."""
        return parse.sysfs_word(data, self.words)

    def shown(self, value: str) -> str:
        """The text of the file."""
        return " ".join(f"[{word}]" if word == value else word for word in self.words) + "\n"


@dataclass(frozen=True, slots=True)
class Number:
    """A file with a number from ``low`` to ``high``."""

    first: str
    low: int = 0
    high: int = UINT_MAX

    def taken(self, data: bytes) -> str:
        """The number that a write sets.  Raises MMError EINVAL."""
        value = parse.kstrtoul(data)
        if not self.low <= value <= self.high:
            raise parse.einval(data, f"a number from {self.low} to {self.high}")
        return str(value)

    def shown(self, value: str) -> str:
        """The text of the file."""
        return f"{value}\n"


SWITCH = Number("1", high=1)
WRITABLE: dict[str, Words | Number] = {
    "enabled": Words(("always", "madvise", "never"), "always"),
    "defrag": Words(("always", "defer", "defer+madvise", "madvise", "never"), "madvise"),
    "shmem_enabled": Words(("always", "within_size", "advise", "never", "deny", "force"), "never"),
    "use_zero_page": SWITCH,
    "khugepaged/defrag": SWITCH,
    "khugepaged/alloc_sleep_millisecs": Number("60000"),
    "khugepaged/scan_sleep_millisecs": Number("10000"),
    "khugepaged/pages_to_scan": Number("4096", low=1),
    "khugepaged/max_ptes_none": Number("511", high=MAX_PTES),
    "khugepaged/max_ptes_swap": Number("64", high=MAX_PTES),
    "khugepaged/max_ptes_shared": Number("256", high=MAX_PTES),
}


def shown(host: Host, name: str) -> str:
    """The text of a file: what was written last, else what the command line or the kernel chose."""
    if name in FIXED:
        return f"{FIXED[name]}\n"
    file = WRITABLE[name]
    return file.shown(host.transparent_hugepage.get(name) or _first(host, name, file))


def _first(host: Host, name: str, file: Words | Number) -> str:
    if name == "enabled" and isinstance(file, Words):
        given = [
            word.removeprefix(COMMAND_LINE) for word in host.cmdline.split() if word.startswith(COMMAND_LINE)
        ]
        return next((word for word in reversed(given) if word in file.words), file.first)
    return file.first
