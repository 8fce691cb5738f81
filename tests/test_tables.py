"""Answers as tables and as lines of text."""

import csv
import io

import pytest

from hugepool.tables import Table, as_columns, as_csv, as_lines, as_markdown, of_answer

LIST = {
    "items": [{"name": "a", "n": {"free": 1}}, {"name": "b", "zones": ["DMA", "Normal"]}],
    "next_cursor": None,
}


def test_a_list_has_a_row_for_each_entry_and_a_column_for_every_field() -> None:
    assert of_answer(LIST) == Table(["name", "n.free", "zones"], [["a", 1, None], ["b", None, "DMA Normal"]])


def test_what_stands_beside_a_list_comes_first_and_names_are_told_apart() -> None:
    table = of_answer(
        {"count": 9, "pool": {"free": 3}, "nodes": [{"node": 0, "count": 5}, {"node": 1, "count": 4}]}
    )
    assert table.columns == ["count", "pool.free", "node", "nodes.count"]
    assert table.rows == [[9, 3, 0, 5], [9, 3, 1, 4]]


def test_columns_and_rows_are_a_table_already() -> None:
    assert of_answer({"columns": ["a"], "rows": [[1], [None]], "next_after": 7}) == Table(
        ["a"], [[1], [None]]
    )


def test_a_variant_is_its_values_and_the_columns_asked_for() -> None:
    row = {
        "variant": 0, "values": {"steps.0.resize.count": 4}, "ok": False, "refused": 1,
        "columns": {"steps.0.errno": "E"},
        "failed_expectations": [{"message": "too few"}], "error": None, "counters": {"2048kB": {}}, "steps": [],
    }  # fmt: skip
    table = of_answer({"ok": False, "variants": [row]})
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "variant": 0, "steps.0.resize.count": 4, "ok": "false", "refused": 1, "steps.0.errno": "E",
        "failed": "too few", "error": None,
    }  # fmt: skip


@pytest.mark.parametrize("value", ['say "so"', "a,b", "two\nlines", " x ", "\u00e4"])
def test_csv_is_read_back_as_it_was(value: str) -> None:
    text = as_csv(Table(["x", "y"], [[value, None]]))
    assert text.startswith("x,y\r\n")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["x", "y"], [value, ""]]


def test_markdown_has_numbers_to_the_right_and_no_stray_bars() -> None:
    assert as_markdown(Table(["a|b", "n"], [["x|y", 1]])) == "| a\\|b | n |\n| --- | ---: |\n| x\\|y | 1 |\n"


def test_one_resource_is_lines_of_key_and_value() -> None:
    document = {
        "size": "2048kB",
        "free": 3,
        "nodes": [{"node": 0, "free": 3}],
        "empty": [],
        "no": None,
        "on": True,
    }
    assert as_lines(document) == "size 2048kB\nfree 3\nnodes.0.node 0\nnodes.0.free 3\nempty \nno \non true\n"


def test_a_list_is_aligned_columns_that_awk_can_count() -> None:
    assert as_lines(LIST) == "name  n.free  zones\na     1       -\nb     -       DMA Normal\n"
    assert as_columns(Table(["a"], [])) == "a\n"
