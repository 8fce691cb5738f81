"""``hugepool serve | check | backup | import | export | mount | exec | run | replay``: the command line.

What HTTP answers as tables (``hosts``, ``show``, ``resize`` and so on) is in ``twins``.
Commands that are clients of a service find it by ``--url`` or ``HUGEPOOL_URL``; ``replay`` needs none, ``run`` only for
scenarios about stored hosts.
"""

import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from hugepool import access, tables, twins, upkeep
from hugepool.calling import DEFAULT_URL, Host, Url, calling, console, errors, wide
from hugepool.mm.machine.profile import PROFILES
from hugepool.upkeep import failed

if TYPE_CHECKING:
    from hugepool.replay.run import Report
    from hugepool.whatif.document import ScenarioFile, WrongFile

app = typer.Typer(
    help="A Linux host's hugetlb pool, simulated page by page.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(upkeep.tokens, name="token")
app.command("check")(upkeep.check)
app.command("backup")(upkeep.backup)
for _command in twins.app.registered_commands:
    app.registered_commands.append(_command)


class Form(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    CSV = "csv"
    MARKDOWN = "md"
    JSON = "json"


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        console.print(f"hugepool {version('hugepool')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """A Linux host's hugetlb pool, simulated page by page."""


class _Serve(TyperCommand):
    """Its help names every variable that the service reads, with its default."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, and what the settings say of themselves."""
        from hugepool.settings import described

        super().format_help(ctx, formatter)
        console.print("Environment:", style="bold")
        for name, default, about in described():
            console.print(f"  {name} [{default}]", markup=False, highlight=False, soft_wrap=True)
            console.print(Padding(Text(about), (0, 0, 0, 6)))


@app.command()
def man() -> None:
    """Print the man page: hugepool man | man -l -"""
    from hugepool.manual import page

    typer.echo(page(typer.main.get_command(app)), nl=False)


@app.command(cls=_Serve)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    database_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
) -> None:
    """Migrate the database and serve the HTTP interface."""
    from pydantic import ValidationError

    from hugepool.initial import WrongInitFolder
    from hugepool.server import serve as run_server
    from hugepool.settings import Settings
    from hugepool.store.errors import StoreFailure

    given: dict[str, Any] = {"host": host, "port": port, "database_url": database_url}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as wrong:
        for error in wrong.errors():
            errors.print(f"{error['loc'][0]}: {error['msg']}", highlight=False)
        raise typer.Exit(2) from None
    try:
        with suppress(KeyboardInterrupt):  # Ctrl-C is raised once more when all is closed
            if not run_server(settings):
                raise typer.Exit(1)
    except (StoreFailure, access.WrongTokensFile, WrongInitFolder) as failure:
        raise failed(failure) from None


@app.command("import")
def import_machines(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Archives, sosreports, folders, or - for the standard input; else this machine."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new host; else that of the file.")] = None,
    series: Annotated[
        bool, typer.Option("--series", help="Looks at one machine over time: they become its history.")
    ] = False,
    root: Annotated[Path, typer.Option(help="Folder that holds proc and sys.")] = Path("/"),
    kernel: Annotated[str | None, typer.Option(help=f"Rules to use: {', '.join(PROFILES)}.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the archive here instead of sending it.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Make hosts of real machines: reads their /proc and /sys and sends them to the service.

    Exit status: 0 all were imported, 1 some were not, 2 the call makes no sense.
    """
    from hugepool.importing import Wanted, import_all

    wanted = Wanted(sources or [str(root)], name, series, kernel, save, here=not sources)
    problem = wanted.problem()
    if problem:
        errors.print(problem, markup=False, highlight=False)
        raise typer.Exit(2)
    with calling(url) as client:
        if not import_all(wanted, client, console, errors):
            raise typer.Exit(1)


@app.command("export")
def export_tree(
    host: Host,
    folder: Annotated[Path, typer.Argument(help="Where the tree is written; made when missing.")],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Write a host's files as a plain tree, for programs that take another root.

    lsmem --sysroot DIR, HWLOC_FSROOT=DIR lstopo, prometheus-node-exporter --path.procfs DIR/proc --path.sysfs DIR/sys
    """
    from hugepool.mirror.export import CannotExport, export
    from hugepool.mirror.view import Mirror

    with calling(url) as client, console.status("reading") as status:
        try:
            mirror = Mirror(client, host)
            files = export(mirror, folder, lambda path: status.update(f"reading {escape(path)}"), force=force)
        except (CannotExport, OSError) as error:
            raise failed(error) from None
    console.print(f"{files} files of host {host!r} in {folder}", highlight=False, soft_wrap=True)


@app.command("mount")
def mount_tree(
    host: Host,
    folder: Annotated[
        Path, typer.Argument(help="An empty folder to mount on.", exists=True, file_okay=False)
    ],
    url: Url = DEFAULT_URL,
) -> None:
    """Mount a host's files (FUSE): reads and writes go to the service.  Ctrl-C, SIGTERM or umount ends it."""
    from hugepool.mirror.mount import CannotMount, mount
    from hugepool.mirror.view import Mirror

    def ready() -> None:
        console.print(f"host {host!r} is mounted on {folder}", highlight=False, soft_wrap=True)

    with calling(url) as client:
        client.host(host)  # a mistake in the name is reported before anything is mounted
        try:
            mount(Mirror(client, host), host, folder, ready)
        except CannotMount as error:
            raise failed(error) from None


@app.command("exec")
def exec_program(
    host: Host,
    program: Annotated[list[str], typer.Argument(help="The program and its arguments, behind --.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Run a program that sees a host's files in place of this machine's, which stay untouched.  Needs root.

    Exit status: that of the program, 128 + n when signal n ended it.
    """
    from hugepool.mirror.execute import execute
    from hugepool.mirror.mount import CannotMount
    from hugepool.mirror.namespace import CannotCover

    with calling(url) as client:
        client.host(host)
    try:
        status = execute(
            url, host, program, lambda text: errors.print(text, markup=False, highlight=False, soft_wrap=True)
        )
    except (CannotMount, CannotCover) as error:
        raise failed(error) from None
    raise typer.Exit(status)


@app.command("run")
def run_scenarios(
    files: Annotated[list[Path], typer.Argument(help="Scenario files: YAML or JSON.")],
    form: Annotated[
        Form,
        typer.Option(
            "--format", help="A table for people, CSV, Markdown, or the answers as HTTP gives them."
        ),
    ] = Form.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report here.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Run what-if scenarios and check what they expect; those about a stored host are asked of the service.

    Exit status: 0 all is as expected, 1 something is not, 2 a file is wrong or could not be run.
    """
    from pydantic_core import from_json

    from hugepool.whatif import report
    from hugepool.whatif.document import WrongFile, read_scenario

    try:
        scenarios = [read_scenario(path) for path in files]
    except WrongFile as wrong:
        raise _wrong_file(wrong) from None
    answers, status = [], 0
    for scenario in scenarios:
        try:
            answer = _answer(scenario, url)
        except WrongFile as wrong:  # the others are run, and their answers kept
            status = _wrong_file(wrong).exit_code
            continue
        answers.append((scenario, from_json(answer)))
        between = "\n" if len(answers) > 1 else ""
        wanted = Form.JSON if as_json else form
        if wanted == Form.TABLE:
            wide().print(report.show(*answers[-1]), crop=False, highlight=False)
        elif wanted == Form.JSON:
            sys.stdout.write(between + answer.decode())
        else:
            sys.stdout.write(between + tables.FORMATS[wanted](report.rows_of(*answers[-1])))
    if junit is not None:
        try:
            junit.write_bytes(report.junit(answers))
        except OSError as error:
            raise _wrong_file(WrongFile(f"{junit}: {error.strerror}")) from None
    if status or not all(answer["ok"] for _, answer in answers):
        raise typer.Exit(status or 1)


def _wrong_file(wrong: "WrongFile") -> typer.Exit:
    for finding in wrong.findings:
        errors.print(finding, markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(2)


def _answer(file: "ScenarioFile", url: str) -> bytes:
    """The answer's bytes, the same whoever makes it; progress is shown meanwhile."""
    from pydantic_core import to_json

    from hugepool.client import Client, Refused, Unreachable
    from hugepool.mm.machine.errors import MMError
    from hugepool.whatif import variants
    from hugepool.whatif.ask import NoAnswer, ask
    from hugepool.whatif.document import WrongFile

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task(escape(file.title), total=None)

        def report_progress(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        try:
            if not variants.names(file.scenario, file.variants):
                return to_json(ask(file, report_progress))
            with Client(url) as client:
                return client.what_if(to_json(file.scenario.given), report_progress)
        except (MMError, Refused) as error:
            raise WrongFile(f"{file.path}: {error.errno}: {error.detail}") from None
        except (NoAnswer, Unreachable) as error:
            raise WrongFile(f"{file.path}: {error}") from None


@app.command()
def replay(
    traces: Annotated[list[Path], typer.Argument(help="Recordings: .json or .json.gz files.")],
    show: Annotated[int, typer.Option(help="Counters that are off to show per recording.")] = 1,
) -> None:
    """Play recordings of real kernels on the model and compare every counter.

    Exit status: 0 nothing is off, 1 something is, 2 a file is not a recording.
    """
    from hugepool.mm.machine.errors import BadInput
    from hugepool.replay.run import replay as replay_file

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
    for word, count in report.inputs.items():
        console.print(f"{report.name}: input, {count} times: {word}", highlight=False)
    for row in [row for row in report.rows if row.verdict == "off"][:show]:
        console.print(
            f"{report.name}: step {row.step}: {row.counter}: kernel {row.kernel}, model {row.model}",
            highlight=False,
        )
