"""Measure everything and print the table."""

import argparse
import os
import platform
import sqlite3
import time

import numpy as np

from tests.bench import boots, footprint, growth, imports, mounted, over_http, page, questions, storage
from tests.bench.report import Figure, table

GROUPS = {
    "http": over_http,
    "growth": growth,
    "storage": storage,
    "memory": footprint,
    "boot": boots,
    "import": imports,
    "mount": mounted,
    "questions": questions,
    "page": page,
}


def main() -> None:
    """All groups, or those asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the cost budgets.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no 16 TiB pool: about 20 s")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one of {', '.join(GROUPS)}; else all")
    asked = parser.parse_args()
    if unknown := set(asked.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}")
    began, load = time.perf_counter(), os.getloadavg()[0]
    figures: list[Figure] = []
    for name in asked.groups or GROUPS:
        print(f"measuring {name} ...", flush=True)
        figures.extend(GROUPS[name].measure(quick=asked.quick))
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, SQLite {sqlite3.sqlite_version}"
    versions += f"; {os.cpu_count()} cores, load {load:.1f} before the start"
    print(f"\n{versions}\n\n{table(figures)}\n\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
