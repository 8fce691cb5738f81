"""Which rule set a real machine's kernel is nearest to, and what that means.

A version is taken from /proc/version, else /proc/sys/kernel/osrelease, else from the name of the image on the command
line; without any of them, from lines that only newer kernels print.  A version says what the code does, but for
distributions that take later code into an old version: there the lines decide as well, and those kernels are a table.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hugepool.fs.procfs import ZoneText
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.profile import PROFILES, profile_of

Version = tuple[int, int]
VERSION, OSRELEASE, CMDLINE = "/proc/version", "/proc/sys/kernel/osrelease", "/proc/cmdline"

_VERSION = re.compile(r"Linux version (\S{3,200})")
_RELEASE = re.compile(r"([0-9]{1,3})\.([0-9]{1,4})(?![0-9])\S*")
_IMAGE = re.compile(r"BOOT_IMAGE=\S*?-([0-9]{1,3}\.[0-9]{1,4}(?![0-9])[^\s/]*)")

# Lines and files by the version that they came with (mm/vmstat.c, fs/proc/meminfo.c, mm/hugetlb.c).
OF_MEMINFO: dict[str, Version] = {
    "KReclaimable": (4, 20), "FilePmdMapped": (5, 4), "Zswap": (5, 19), "SecPageTables": (6, 1),
    "Unaccepted": (6, 5), "Balloon": (6, 16),
}  # fmt: skip
OF_VMSTAT: dict[str, Version] = {
    "workingset_refault_anon": (5, 9), "nr_swapcached": (5, 12), "pgdemote_kswapd": (5, 15),
    "nr_throttled_written": (5, 17), "nr_sec_page_table_pages": (6, 1), "nr_iommu_pages": (6, 11),
    "nr_memmap_boot_pages": (6, 11), "nr_free_pages_blocks": (6, 16), "nr_hugetlb": (6, 16),
}  # fmt: skip
OF_PAGESETS: dict[str, Version] = {"high_min:": (6, 15)}
OF_PATHS: dict[str, Version] = {"/demote_size": (5, 16), "/hugetlb_optimize_vmemmap": (5, 19)}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Kernels whose code is of later versions than their name says.

    ``acts_as``: at least this version, by the first build number from which it holds, in rising order.
    """

    name: str
    release: re.Pattern[str]
    acts_as: tuple[tuple[int, Version], ...]


# Source: docs/import.md, "Kernels of distributions".
DISTRIBUTIONS = (
    Distribution(
        "RHEL 9",
        re.compile(r"5\.14\.0-([0-9]{1,5})[\w.]*\.el9"),
        ((0, (5, 14)), (284, (6, 1))),
    ),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A rule set; ``note``: why it was chosen and what that means, None where there is nothing to say."""

    name: str
    note: str | None = None


def choose_kernel(files: Mapping[str, str], zones: Iterable[ZoneText], asked: str | None) -> Chosen:
    """The rule set for a machine.

    Raises:
        BadInput: there is no such rule set, or /proc/version is that of no Linux.
    """
    if asked is not None:
        return Chosen(profile_of(asked).name)
    found = _of_fields(files, list(zones))
    for find in (_of_version, _of_osrelease, _of_image):
        release = find(files)
        if release is not None:
            return _of_release(release, found.version)
    name = nearest(found.version)
    return Chosen(name, f"No file names the kernel's version. {found.seen}: the rule set of {name} is used.")


def nearest(version: Version) -> str:
    """The newest rule set that stands for a kernel version or an older one."""
    known = PROFILES.values()
    return max(known, key=lambda profile: (profile.first_version <= version, profile.first_version)).name


def _of_version(files: Mapping[str, str]) -> str | None:
    if VERSION not in files:
        return None
    match = _VERSION.match(files[VERSION])
    if match is None or not _RELEASE.fullmatch(match[1]):
        raise BadInput("does not begin with 'Linux version X.Y'", where=f"{VERSION}:1")
    return match[1]


def _of_osrelease(files: Mapping[str, str]) -> str | None:
    word = files.get(OSRELEASE, "").strip()
    return word if _RELEASE.fullmatch(word) else None


def _of_image(files: Mapping[str, str]) -> str | None:
    match = _IMAGE.search(files.get(CMDLINE, ""))
    return match[1] if match else None


def _of_release(release: str, shown: Version) -> Chosen:
    match = _RELEASE.fullmatch(release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    for row in DISTRIBUTIONS:
        build = row.release.match(release)
        if build:
            least = [like for first, like in row.acts_as if int(build[1]) >= first][-1]
            return _of_distribution(f"{release[:80]} ({row.name})", version, max(least, shown))
    name = nearest(version)
    if _word(version) == name:
        return Chosen(name)
    return Chosen(name, f"The kernel is {release[:80]}: {_meaning(version, name)}.")


def _of_distribution(what: str, version: Version, acts_as: Version) -> Chosen:
    name = nearest(acts_as)
    own = (
        "" if acts_as == version else f", which has code of later versions, here up to Linux {_word(acts_as)}"
    )
    return Chosen(name, f"The kernel is {what}{own}: the rule set of {name} is the nearest.")


def _meaning(version: Version, name: str) -> str:
    if version < (5, 14):
        return f"the rule set of {name} is used, though kernels before 5.14 free no vmemmap of huge pages"
    return f"the rule set of {name} is the nearest; where the two differ, the host does as {name} does"


def _word(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


@dataclass(frozen=True, slots=True)
class _Shown:
    """The newest version that a line or a file stands for, and which it is, in words."""

    version: Version
    seen: str


def _of_fields(files: Mapping[str, str], zones: list[ZoneText]) -> _Shown:
    newest, seen = (0, 0), "No line of a newer kernel is there"
    for table, is_there in _signs(files, zones):
        for word, version in table.items():
            if version > newest and is_there(word):
                newest, seen = version, f"{word.strip('/:')} is there, which came with {_word(version)}"
    return _Shown(newest, seen)


def _signs(
    files: Mapping[str, str], zones: list[ZoneText]
) -> Iterable[tuple[dict[str, Version], Callable[[str], bool]]]:
    meminfo = "\n" + files.get("/proc/meminfo", "")
    yield OF_MEMINFO, lambda name: f"\n{name}:" in meminfo
    counters = {name for zone in zones for name in (*zone.node_stats, *zone.stats)}
    counters |= {line.partition(" ")[0] for line in files.get("/proc/vmstat", "").splitlines()}
    yield OF_VMSTAT, counters.__contains__
    pagesets = [line.strip() for zone in zones for line in zone.tail]
    yield OF_PAGESETS, lambda word: any(line.startswith(word) for line in pagesets)
    yield OF_PATHS, lambda end: any(path.endswith(end) for path in files)
