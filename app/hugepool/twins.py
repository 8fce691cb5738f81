"""``hugepool hosts | show | resize | explain | plan | fork | rm | map | history``: what HTTP answers, as tables.

Each is one request to the service, and prints its answer as JSON with ``--json``.  ``plan`` also takes a file with a
machine, and needs no service then.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table as Grid
from rich.text import Text

from hugepool import tables
from hugepool.calling import DEFAULT_URL, Host, Url, calling, console, errors, wide

GIB = 1 << 30
HOST_COLUMNS = (
    "host", "kernel", "labels", "revision", "GiB", "free GiB", "size", "nr", "free", "resv", "surplus", "states",
)  # fmt: skip
app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as HTTP gives it.")]
Size = Annotated[str, typer.Option(help="The huge page size, as sysfs writes it.")]
Node = Annotated[int | None, typer.Option(help="Only the part of the pool on this node.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would come of it, and change nothing.")]


def show_table(table: tables.Table) -> None:
    """Print rows: as wide as the terminal, or as they need in a pipe."""
    grid = Grid(box=None, pad_edge=False, show_header=any(table.columns))
    numbers = [_are_numbers(table.rows, i) for i in range(len(table.columns))]
    for name, right in zip(table.columns, numbers, strict=True):
        grid.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(tables.shown(value)) for value in row))
    wide().print(grid, crop=False, highlight=False)


def _are_numbers(rows: Sequence[Sequence[Any]], column: int) -> bool:
    return all(row[column] is None or isinstance(row[column], int | float) for row in rows)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_json(answer: Any) -> None:
    typer.echo(json.dumps(answer, indent=2))


def _path(host: str) -> str:
    from hugepool.client import part

    return f"hosts/{part(host)}"


# -- hosts -------------------------------------------------------------------------------------------------


@app.command()
def hosts(
    name: Annotated[str | None, typer.Option(help="Only names like this: web-*.")] = None,
    kernel: Annotated[str | None, typer.Option(help="Only hosts with this rule set.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only hosts with this label: rack=7.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only hosts in this state: surplus-stuck.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List hosts with their pools, memory and states; a row for each host and huge page size that has pages."""
    from hugepool.client import given

    query = given(view="summary", name=name, kernel=kernel, label=label or None, state=state or None)
    with calling(url) as client:
        found = list(client.items("hosts", **query))
    if as_json:
        _print_json(found)
        return
    show_table(tables.Table(list(HOST_COLUMNS), [row for host in found for row in _host_rows(host)]))


def _host_rows(host: Mapping[str, Any]) -> list[list[Any]]:
    memory, pools = host["memory"], [pool for pool in host["hugepages"] if pool["nr_hugepages"]]
    labels = " ".join(f"{key}={value}" for key, value in host["labels"].items())
    head = [host["name"], host["kernel"], labels, host["revision"]]
    size = [round(memory["total_bytes"] / GIB, 1), round(memory["free_bytes"] / GIB, 1)]
    return [
        [*head, *size, pool["size"], *(pool[f"{what}_hugepages"] for what in ("nr", "free", "resv", "surplus")),
         " ".join(host["states"])]
        for pool in pools or host["hugepages"][:1]
    ]  # fmt: skip


@app.command()
def show(host: Host, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show a host: its pools by node, its memory, and what it is; armed faults are always shown."""
    with calling(url) as client:
        found = client.get(_path(host))
    if as_json:
        _print_json(found)
        return
    named = ("name", "kernel", "cmdline", "revision", "memory", "vmemmap", "deferred_frees", "faults")
    show_table(tables.Table(["", ""], [[k, v] for k, v in tables.flat({n: found[n] for n in named}).items()]))
    _say("")
    what = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
    rows = [
        [pool["size"], node["node"], *(node[name] for name in what)]
        for pool in found["hugepages"]
        for node in pool["nodes"]
    ]
    show_table(tables.Table(["size", "node", "nr", "free", "surplus"], rows))


@app.command()
def fork(
    host: Host, name: Annotated[str, typer.Argument(help="Name of the copy.")], url: Url = DEFAULT_URL
) -> None:
    """Copy a host."""
    with calling(url) as client:
        client.fork_host(name, host)
    _say(f"host {name!r} is a copy of {host!r}")


@app.command("rm")
def remove(
    names: Annotated[
        list[str], typer.Argument(help="Names of hosts; all are looked up before one is deleted.")
    ],
    url: Url = DEFAULT_URL,
) -> None:
    """Delete hosts and their histories."""
    with calling(url) as client:
        for name in names:
            client.host(name)
        for name in names:
            client.delete_host(name)
    _say(f"{len(names)} deleted")


# -- pools -------------------------------------------------------------------------------------------------


@app.command()
def resize(
    host: Host,
    count: Annotated[int, typer.Argument(min=0, help="The size of the pool, in huge pages.")],
    size: Size = "2048kB",
    node: Node = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Resize a pool, and say in sentences what came of it.

    Exit status: 0 the pool has the size asked for, 1 it fell short or was refused; what was done is kept.
    """
    from hugepool.client import Refused

    with calling(url) as client:
        try:
            done: Mapping[str, Any] = client.resize(host, size, count, node=node, dry_run=dry_run)
            why = done["shortfall"]
        except Refused as refused:
            if refused.result is None:
                raise
            done, why = refused.result, {"detail": refused.detail, **refused.facts}
    if as_json:
        _print_json(done)
    else:
        _say(_resized(done, size, dry_run=dry_run))
        _say_why(why)
    if why is not None:
        raise typer.Exit(1)


def _resized(done: Mapping[str, Any], size: str, *, dry_run: bool) -> str:
    before, after = done["before"], done["after"]
    verb = "would have" if dry_run else "has"
    return (
        f"the pool of {size} pages {verb} {after['nr_hugepages']} ({before['nr_hugepages']} before): "
        f"{done['allocated']} allocated, {done['freed']} freed, {after['surplus_hugepages']} surplus"
    )


def _say_why(why: Mapping[str, Any] | None) -> None:
    if why is not None:
        _say(str(why.get("summary") or why.get("detail")))
        for remedy in why.get("remedies") or ():
            _say(f"what helps: {remedy['text']}")


@app.command()
def explain(
    host: Host,
    size: Size = "2048kB",
    count: Annotated[int | None, typer.Option(min=0, help="What a write of this size would come to.")] = None,
    node: Node = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say why a pool is as it is, or what a write would come to; changes nothing."""
    from hugepool.client import given

    with calling(url) as client:
        found = client.get(f"{_path(host)}/hugepages/{size}/explain", **given(count=count, node=node))
    if as_json:
        _print_json(found)
    else:
        _say_why(found)


# -- looking at more ---------------------------------------------------------------------------------------


@app.command("map")
def memory_map(
    host: Host,
    bins: Annotated[int, typer.Option(min=1, max=4096, help="Parts of physical memory.")] = 32,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show what each part of physical memory is used for, in MiB."""
    with calling(url) as client:
        found = client.get(f"{_path(host)}/memory-map", bins=bins)
    if as_json:
        _print_json(found)
        return
    uses = list(found["uses"])
    rows = [
        [first, found["node"][i], found["zone"][i], *(_mib(found["uses"][use][i]) for use in uses)]
        for i, first in enumerate(found["bins"])
    ]
    show_table(tables.Table(["first pfn", "node", "zone", *uses], rows))


def _mib(pages: int) -> float | None:
    return round(pages / 256, 1) or None


@app.command()
def history(
    host: Host,
    every: Annotated[str | None, typer.Option(help="Only the last revision of each span: 1s, 5m.")] = None,
    fields: Annotated[str | None, typer.Option(help="Figures to show, separated by commas.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most revisions.")] = 1000,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show the figures of a host by revision, huge page size and node."""
    from hugepool.client import given

    query = given(limit=limit, every=every, fields=fields)
    with calling(url) as client:
        found = client.get(f"{_path(host)}/history", **query)
    if as_json:
        _print_json(found)
    else:
        show_table(tables.of_answer(found))


# -- plans -------------------------------------------------------------------------------------------------


@app.command()
def plan(
    host: Annotated[
        str, typer.Argument(help="A host of the service, or a file (YAML, JSON) with a machine's spec.")
    ],
    question: Annotated[
        str, typer.Argument(help="max-pool, savings, headroom, offline, placement or churn.")
    ],
    given: Annotated[
        list[str] | None, typer.Argument(help="Fields of the question: keep=4G count=64.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Ask a plan of a host, or of a machine that a file describes: no service is needed then.

    Exit status: 0 answered, 1 refused, 2 the call makes no sense.
    """
    body = _fields(given or [])
    file = Path(host)
    if file.suffix in {".yaml", ".yml", ".json"}:
        answer = _plan_here(file, question, body)
    else:
        with calling(url) as client:
            answer = json.loads(client.plan(host, question, body))
    if as_json:
        _print_json(answer)
    else:
        show_table(tables.Table(["", ""], [[key, value] for key, value in tables.flat(answer).items()]))


def _fields(given: Sequence[str]) -> dict[str, Any]:
    """``count=64 nodes=[0,1] keep=4G`` as a body."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            errors.print(f"{text!r}: a field is name=value", markup=False, highlight=False)
            raise typer.Exit(2)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _plan_here(file: Path, question: str, body: dict[str, Any]) -> Any:
    """The answer for a machine that is booted here."""
    from hugepool.mm.machine.errors import MMError
    from hugepool.whatif.ask import Unasked, plan_of_file

    try:
        return plan_of_file(file, question, body)
    except Unasked as wrong:
        errors.print(str(wrong), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except MMError as refused:
        errors.print(f"refused: {refused.detail}", markup=False, highlight=False)
        raise typer.Exit(1) from None
