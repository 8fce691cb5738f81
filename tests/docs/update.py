"""``python -m tests.docs.update``: run what the documentation shows, and write the outputs anew.

For after a change that is meant to change them; read the difference before it is committed.
"""

import subprocess
import tempfile
from pathlib import Path

from tests.docs.console import ROOT, environment, rewrite
from tests.docs.server import running
from tests.docs.test_examples import SCRIPTS
from tests.docs.test_readme import PAGES


def main() -> None:
    """Write README, pages and the examples' outputs, each against a new service."""
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as url:
            rewrite(page, url, Path(folder))
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as url:
        for script in SCRIPTS:
            env = environment(url, Path(folder))
            done = subprocess.run(["bash", script], cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True)
            script.with_suffix(".out").write_bytes(done.stdout)


if __name__ == "__main__":
    main()
