"""``python -m hugepool.openapi`` writes the files of openapi/ and the types of the client's answers.

With ``--check`` it compares instead.

Exit code 1 when a file is not what the service serves.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hugepool.api.documents import module
from hugepool.main import create_app
from hugepool.settings import Settings
from hugepool.whatif.scenario import json_schema

FOLDER = Path(__file__).parents[2] / "openapi"
PACKAGE = Path(__file__).parent
DOCUMENTS = "documents.py"
MAX_DIFF_LINES = 60


def texts() -> dict[str, str]:
    """What the service serves, by the name of the file that has it."""
    served = create_app(Settings(database_url="sqlite:///never-opened.db")).openapi()
    return {
        "openapi.json": _text(served),
        "scenario.schema.json": _text(json_schema()),
        DOCUMENTS: module(served),
    }


def _text(schema: Any) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def differences(name: str, stored: str, served: str) -> list[str]:
    """What differs, shortened; empty when nothing does."""
    lines = list(
        difflib.unified_diff(
            stored.splitlines(), served.splitlines(), f"openapi/{name}", "as served", lineterm="", n=2
        )
    )
    if len(lines) > MAX_DIFF_LINES:
        changed = sum(line[:1] in {"+", "-"} for line in lines)
        lines = [*lines[:MAX_DIFF_LINES], f"... {changed} lines differ in all"]
    return lines


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hugepool.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    found = []
    for name, served in texts().items():
        file = PACKAGE / name if name == DOCUMENTS and folder == FOLDER else folder / name
        if check:
            found += differences(name, file.read_text() if file.exists() else "", served)
            continue
        folder.mkdir(exist_ok=True)
        file.write_text(served)
        sys.stdout.write(f"wrote {file}\n")
    if found:
        sys.stderr.write("\n".join(found) + "\nrun `make openapi` and commit the files\n")
        return 1
    if check:
        sys.stdout.write("openapi/ is what the service serves\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
