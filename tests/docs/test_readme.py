"""The documentation's console blocks, run in order against a real service."""

from pathlib import Path

import pytest

from tests.docs.console import ROOT, comparable, play, read_steps
from tests.mirror.helpers import skip_without_fuse
from tests.programs.running import skip_without

NAMES = ("client", "commands", "files", "harness", "plans", "what-if")
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in NAMES)]
PROGRAMS = ("chmem", "hugeadm", "lsmem", "lstopo-no-graphics", "numactl")  # files.md runs them on a mount


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_prints_what_the_page_says(
    page: Path, service_url: str, tmp_path: Path
) -> None:
    if page.name == "files.md":
        skip_without_fuse()
        for program in PROGRAMS:
            skip_without(program)
    steps = read_steps(page.read_text())
    assert steps, "the page has no console block"

    printed = play(steps, service_url, tmp_path)

    shown = "\n\n".join(f"$ {s.command}\n" + "\n".join(comparable(s.output)) for s in steps)
    really = "\n\n".join(
        f"$ {s.command}\n" + "\n".join(comparable(p)) for s, p in zip(steps, printed, strict=True)
    )
    assert really == shown
