"""How blocks of a page become commands, and how the small helper of the pages reads JSON."""

import subprocess
import sys

import pytest

from tests.docs.console import ROOT, read_steps

PAGE = """
```sh
make run
```
```bash
export A=1
f() { echo "$1"; }
```
```console
$ f one
one
$ f 'two
> lines'
two
lines
```
"""
SHOW = ROOT / "examples" / "bin" / "show"


def test_set_up_is_one_command_prompts_are_one_each_and_other_blocks_are_not_run() -> None:
    found = [(step.line, step.command, step.output) for step in read_steps(PAGE)]
    assert found == [
        (5, 'export A=1\nf() { echo "$1"; }\n', []),
        (10, "f one", ["one"]),
        (12, "f 'two\nlines'", ["two", "lines"]),
    ]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a", '{"b": [{"c": 1}, {"c": null}]}'),
        ("a.b.c", "[1, null]"),
    ],
)
def test_show_prints_a_field_or_that_of_every_item(path: str, shown: str) -> None:
    text = '{"a": {"b": [{"c": 1}, {"c": null}]}}'
    done = subprocess.run(
        [sys.executable, SHOW, path], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{path}: {shown}\n"


def test_show_fails_where_there_is_no_such_field() -> None:
    done = subprocess.run(
        [sys.executable, SHOW, "b"], input="{}", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "KeyError: 'b'" in done.stderr
