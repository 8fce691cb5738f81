"""``make attack``: everything that may happen to a service, bounded, on the loopback, in folders that go away.

``python -m tests.attack [ATTACK…]`` runs some of them; ``--short`` less of each.  Exit status 1: something failed.
"""

import argparse
import sys

from tests.attack import by_schema, damaged, full_disk, fuzz, kills, mixed_load, two_servers
from tests.attack.report import Report

ATTACKS = {
    "schema": by_schema.main,
    "fuzz": fuzz.main,
    "kills": kills.main,
    "disk": full_disk.main,
    "damage": damaged.main,
    "servers": two_servers.main,
    "load": mixed_load.main,
}
# How much: in the long form, and in the short one.
SIZES = {
    "examples": (50, 1, "generated requests for each operation and phase"),
    "requests": (20_000, 300, "fuzzed requests"),
    "kills": (1000, 6, "kills of a service"),
    "rounds": (50, 3, "times that a disk is filled"),
    "flips": (200, 5, "files with damaged bits, besides all other ways"),
    "changes": (2000, 100, "changes that two servers make"),
    "load-seconds": (3600, 4, "seconds of mixed load"),
}


def options(arguments: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument(
        "attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)}; all without any"
    )
    parser.add_argument("--short", action="store_true", help="a few of each, in less than a minute")
    parser.add_argument("--seed", type=int, default=1)
    for name, (long, short, what) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} ({long}; short: {short})")
    found = parser.parse_args(arguments)
    if unknown := set(found.attacks) - set(ATTACKS):
        parser.error(f"no attack {', '.join(sorted(unknown))}")
    for option, (long, short, _) in SIZES.items():
        name = option.replace("-", "_")
        if getattr(found, name) is None:
            setattr(found, name, short if found.short else long)
    return found


def run(asked: argparse.Namespace) -> list[Report]:
    """Run the attacks one after another; each is printed when it is done."""
    reports = []
    for name in asked.attacks or ATTACKS:
        reports.append(ATTACKS[name](asked))
        print(reports[-1].text(), flush=True)
    return reports


if __name__ == "__main__":
    sys.exit(1 if any(report.failures for report in run(options(sys.argv[1:]))) else 0)
