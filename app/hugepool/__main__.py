"""``hugepool`` and ``python -m hugepool``: the command line, or one line that says what to install for it.

``pip install hugepool`` brings the Python client and the pytest plugin.  The commands come with the extras.
"""

import sys


def main() -> None:
    """Run the command line.  A library that is not installed ends it with one line and status 1."""
    try:
        from hugepool.cli import app

        app(prog_name="hugepool")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "hugepool":
            raise  # a mistake of our own
        sys.exit(f"hugepool: this command needs {missing.name}: pip install 'hugepool[server]'")


if __name__ == "__main__":
    main()
