"""``python -m app.openapi`` writes openapi/openapi.json; with ``--check`` it compares instead.

Exit code 1 when the file is not what the service serves.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from app.main import create_app
from app.settings import Settings

FILE = Path(__file__).parent.parent / "openapi" / "openapi.json"
MAX_DIFF_LINES = 60


def schema_text() -> str:
    """The schema that the service serves, as the file has it."""
    app = create_app(Settings(database_url="sqlite:///never-opened.db"))
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def differences(stored: str, served: str) -> list[str]:
    """What differs, shortened; empty when nothing does."""
    lines = list(
        difflib.unified_diff(
            stored.splitlines(), served.splitlines(), "openapi/openapi.json", "as served", lineterm="", n=2
        )
    )
    if len(lines) > MAX_DIFF_LINES:
        changed = sum(line[:1] in {"+", "-"} for line in lines)
        lines = [*lines[:MAX_DIFF_LINES], f"... {changed} lines differ in all"]
    return lines


def main(arguments: Sequence[str] | None = None, file: Path = FILE) -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    served = schema_text()
    if not check:
        file.parent.mkdir(exist_ok=True)
        file.write_text(served)
        sys.stdout.write(f"wrote {file}\n")
        return 0
    found = differences(file.read_text() if file.exists() else "", served)
    if found:
        sys.stderr.write("\n".join(found) + "\nrun `make openapi` and commit the file\n")
        return 1
    sys.stdout.write("openapi/openapi.json is what the service serves\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
