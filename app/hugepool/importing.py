"""``hugepool import``: from archives, folders or this machine to hosts of a service."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from hugepool.client import Client, Refused
from hugepool.fs.archive import make_archive
from hugepool.fs.collect import Collected
from hugepool.fs.sources import STDIN, name_for, read_source
from hugepool.mm.machine.errors import MMError

SHOWN = 10  # files that could not be read, by name


@dataclass(slots=True)
class Wanted:
    """What was asked for; ``here``: the one source is this machine, or another root."""

    sources: list[str]
    name: str | None = None
    series: bool = False
    kernel: str | None = None
    save: Path | None = None
    here: bool = False

    def problem(self) -> str | None:
        """Why this cannot be meant, in words."""
        several = len(self.sources) > 1
        if several and self.save is not None:
            return "--save writes one archive; there are several sources"
        if several and self.name is not None and not self.series:
            return "--name names one host, and there are several sources; --series makes one host of them all"
        if self.series and self.name is None:
            return "--series needs --name"
        twice = [name for name, count in Counter(map(self.host, self.sources)).items() if count > 1]
        if twice and not self.series:
            return f"two sources would be the host {twice[0]!r}; import them one by one, with --name"
        return None

    def host(self, source: str) -> str:
        """The name of a source's host."""
        if self.name is not None:
            return self.name
        return "imported" if self.here or source == STDIN else name_for(source)


def import_all(wanted: Wanted, client: Client, console: Console, errors: Console) -> bool:
    """Import everything that can be; whether that was all.

    Raises what ``client`` does when it finds no service.
    """
    ok, series = True, []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("machines", total=len(wanted.sources))
        for source, found in _read_all(wanted.sources, progress, errors):
            ok = ok and found is not None
            if found is None:
                continue
            if len(wanted.sources) == 1:
                _tell_read(found, console)
            if wanted.series:
                series.append((source, found))
            else:
                ok = _send(wanted, source, found, client, console, errors) and ok
                progress.advance(bar)
        for source, found in sorted(series, key=lambda one: one[1].taken_s):
            ok = _send(wanted, source, found, client, console, errors) and ok
            progress.advance(bar)
    return ok


def _read_all(
    sources: list[str], progress: Progress, errors: Console
) -> Iterator[tuple[str, Collected | None]]:
    for source in sources:
        task = progress.add_task(escape(f"reading {source}"), total=None)
        try:
            yield source, read_source(source, partial(_read_so_far, progress, task))
        except (MMError, OSError) as error:
            detail = error.detail if isinstance(error, MMError) else error
            errors.print(f"{source}: {detail}", markup=False, highlight=False, soft_wrap=True)
            yield source, None
        progress.remove_task(task)


def _read_so_far(progress: Progress, task: TaskID, done: int, of: int) -> None:
    progress.update(task, completed=done >> 10, total=of >> 10)


def _tell_read(found: Collected, console: Console) -> None:
    left_out = list(found.unreadable)
    console.print(f"{len(found.files)} files read, {len(left_out)} could not be", highlight=False)
    if left_out:
        more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        console.print(
            f"not readable: {', '.join(left_out[:SHOWN])}{more}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _send(
    wanted: Wanted, source: str, found: Collected, client: Client, console: Console, errors: Console
) -> bool:
    data = make_archive(found.files, found.taken_s)
    if wanted.save is not None:
        wanted.save.write_bytes(data)
        console.print(f"archive of {len(data)} bytes written to {wanted.save}")
        return True
    name = wanted.host(source)
    try:
        answer = client.import_archive(name, data, wanted.kernel, series=wanted.series)
        meminfo = client.read_file(name, "/proc/meminfo")
    except Refused as error:
        errors.print(f"{source}: refused: {error.detail}", markup=False, highlight=False, soft_wrap=True)
        return False
    size = {key: int(value.split()[0]) >> 10 for key, _, value in
            (line.partition(":") for line in meminfo.splitlines()) if key in {"MemTotal", "MemFree"}}  # fmt: skip
    nodes = len(answer["nodes"])
    about = f"{size['MemTotal']} MiB, {nodes} {'node' if nodes == 1 else 'nodes'}, {size['MemFree']} MiB free"
    console.print(f"host {answer['name']!r} ({answer['kernel']}): {about}", markup=False)
    if len(wanted.sources) == 1:
        for sentence in answer["assumptions"]:
            console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    return True
