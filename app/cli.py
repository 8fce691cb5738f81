"""``hugepool serve | import | replay``: the command line.

Commands that are clients of a service find it by ``--url`` or ``HUGEPOOL_URL``; ``replay`` needs none.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from app.client import Client
    from app.replay.run import Report

app = typer.Typer(help="A Linux host's hugetlb pool, simulated page by page.", no_args_is_help=True)
console = Console()
errors = Console(stderr=True)

Url = Annotated[str, typer.Option(envvar="HUGEPOOL_URL", help="Where the service listens.")]
DEFAULT_URL = "http://127.0.0.1:8000"


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    database_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
) -> None:
    """Migrate the database and serve the HTTP interface."""
    import uvicorn
    from pydantic import ValidationError

    from app.main import create_app
    from app.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port, "database_url": database_url}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as wrong:
        for error in wrong.errors():
            errors.print(f"{error['loc'][0]}: {error['msg']}", highlight=False)
        raise typer.Exit(2) from None
    application = create_app(settings)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = uvicorn.Server(config)
    application.state.streams.stopping = lambda: server.should_exit
    with suppress(KeyboardInterrupt):  # Ctrl-C is raised once more when all is closed
        server.run()
    if not server.started:
        raise typer.Exit(1)


@app.command("import")
def import_machine(
    name: Annotated[str, typer.Option(help="Name of the new host.")] = "imported",
    root: Annotated[Path, typer.Option(help="Folder that holds proc and sys.")] = Path("/"),
    kernel: Annotated[str | None, typer.Option(help="Rules to use: 5.14, 6.1 or 6.12.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the archive here instead of sending it.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a host of a real machine: reads its /proc and /sys and sends them to the service."""
    from app.fs.collect import collect, make_archive

    with console.status("reading") as status:
        found = collect(root, lambda path: status.update(f"reading {path}"))
    console.print(f"{len(found.files)} files read, {len(found.unreadable)} could not be")
    data = make_archive(found.files)
    if save is not None:
        save.write_bytes(data)
        console.print(f"archive of {len(data)} bytes written to {save}")
        return
    with calling(url) as client, console.status(f"sending {len(data)} bytes to {url}"):
        answer = client.import_archive(name, data, kernel)
    memory = answer["memory"]
    console.print(
        f"host {answer['name']!r} ({answer['kernel']}): {memory['total_bytes'] >> 20} MiB, "
        f"{len(answer['nodes'])} nodes, {memory['free_bytes'] >> 20} MiB free"
    )


@contextmanager
def calling(url: str) -> Iterator["Client"]:
    """A client of the service; its two errors end the command with exit status 1."""
    from app.client import Client, Refused, Unreachable

    try:
        with Client(url) as client:
            yield client
    except Unreachable as error:
        errors.print(f"{error}\nstart one with: hugepool serve", highlight=False)
        raise typer.Exit(1) from None
    except Refused as error:
        errors.print(f"refused: {error.detail}", highlight=False)
        raise typer.Exit(1) from None


@app.command()
def replay(
    traces: Annotated[list[Path], typer.Argument(help="Recordings: .json or .json.gz files.")],
    show: Annotated[int, typer.Option(help="Counters that are off to show per recording.")] = 1,
) -> None:
    """Play recordings of real kernels on the model and compare every counter.

    Exit status: 0 nothing is off, 1 something is, 2 a file is not a recording.
    """
    from app.mm.errors import BadInput
    from app.replay.run import replay as replay_file

    reports: list[Report] = []
    for path in traces:
        try:
            reports.append(replay_file(path))
        except BadInput as error:
            errors.print(str(error), highlight=False)
            raise typer.Exit(2) from None
    console.print(_table(reports), soft_wrap=True)
    for report in reports:
        _print_findings(report, show)
    if any(report.count("off") for report in reports):
        raise typer.Exit(1)


def _table(reports: "list[Report]") -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", no_wrap=True, overflow="fold")
    for column in ("steps", "compared", "exact", "within rule", "off", "not modelled"):
        table.add_column(column, justify="right")
    for report in reports:
        counts = [str(report.count(verdict)) for verdict in ("exact", "within", "off")]
        missing = str(sum(report.not_modelled.values()))
        table.add_row(report.name, str(report.steps), str(len(report.rows)), *counts, missing)
    return table


def _print_findings(report: "Report", show: int) -> None:
    if not report.came_up:
        console.print(
            f"{report.name}: the recorded guest did not come up; nothing to replay", highlight=False
        )
    for kind, count in report.not_modelled.items():
        console.print(f"{report.name}: {count} steps not modelled: {kind}", highlight=False)
    for row in [row for row in report.rows if row.verdict == "off"][:show]:
        console.print(
            f"{report.name}: step {row.step}: {row.counter}: kernel {row.kernel}, model {row.model}",
            highlight=False,
        )


if __name__ == "__main__":
    app(prog_name="hugepool")
