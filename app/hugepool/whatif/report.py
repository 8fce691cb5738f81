"""Answers to what-if questions for people, as tables, and for CI systems, as JUnit XML."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from pydantic_core import to_json
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hugepool import tables
from hugepool.whatif.document import ScenarioFile

Answer = Mapping[str, Any]
MAX_VALUE = 30
MAX_STEP = 60
_POOL = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def show(file: ScenarioFile, answer: Answer) -> RenderableType:
    """The answer as a table: a row for each step, or for each variant, and one line of summary."""
    rows = _variant_table(answer) if "variants" in answer else _step_table(file, answer)
    reasons = [Text(f"  {text}") for text in _reasons(answer)]
    failed = [Text(f"  {text}", "red") for text in _failures(answer)]
    return Group(Text(f"{file.title}  ({file.path})", "bold"), rows, *reasons, *failed, _summary(answer))


def _failures(answer: Answer) -> Iterator[str]:
    if "variants" in answer:
        for row in answer["variants"]:
            yield from (f"variant {row['variant'] + 1}: {text}" for text in _row_failures(row))
        return
    for i, step in enumerate(answer["steps"]):
        yield from (f"step {i + 1}: {_reported(failure, step)}" for failure in step["failed_expectations"])


def _reported(failure: Answer, step: Answer) -> str:
    """What failed; why a step fell short stands above it already."""
    message: str = failure["message"]
    return message.removeprefix(f"{step['summary']} ").strip("()")


def _reasons(answer: Answer) -> Iterator[str]:
    """Why steps were refused or fell short, and what would help."""
    for i, step in enumerate(answer.get("steps", []), 1):
        if step["summary"]:
            yield f"step {i}: {step['summary']}"
            yield from (f"  what helps: {remedy['text']}" for remedy in step["remedies"])


def _table(*columns: str) -> Table:
    """Words to the left; numbers are added to the right of them by the caller."""
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    return table


def rows_of(file: ScenarioFile, answer: Answer) -> tables.Table:
    """The answer as plain rows, for other formats: a row for each step or variant, and why it failed."""
    if "variants" in answer:
        return tables.of_answer(answer)
    sizes = _sizes(answer["steps"])
    pools = [f"{size} {name}" for size in sizes for name in ("nr", "free", "resv", "surplus")]
    rows = []
    for i, step in enumerate(answer["steps"]):
        numbers = [step["counters"][size][name] for size in sizes for name in _POOL]
        failed = "; ".join(failure["message"] for failure in step["failed_expectations"])
        free = step["counters"]["memory"]["free_bytes"]
        rows.append(
            [i + 1, step_words(file, i), _outcome(step), *numbers, free, step["summary"], failed or None]
        )
    return tables.Table(["step", "what", "outcome", *pools, "free_bytes", "summary", "failed"], rows)


def _summary(answer: Answer) -> Text:
    if "variants" in answer:
        wrong = sum(not row["ok"] for row in answer["variants"])
        return _verdict(f"{len(answer['variants'])} variants", wrong, "of them not as expected")
    wrong = sum(len(step["failed_expectations"]) for step in answer["steps"])
    return _verdict(
        f"{len(answer['steps'])} steps, {answer['refused']} refused", wrong, "expectations failed"
    )


def _verdict(what: str, wrong: int, words: str) -> Text:
    return Text(f"FAILED: {what}, {wrong} {words}", "red") if wrong else Text(f"ok: {what}", "green")


# -- steps -------------------------------------------------------------------------------------------------


def _step_table(file: ScenarioFile, answer: Answer) -> Table:
    steps: Sequence[Answer] = answer["steps"]
    sizes = _sizes(steps)
    table = _table("step", "outcome")
    for size in sizes:
        for name in ("nr", "free", "resv", "surp"):
            table.add_column(
                f"{size}\n{name}" if name == "nr" else f"\n{name}", justify="right", no_wrap=True
            )
    table.add_column("MiB\nfree", justify="right", no_wrap=True)
    for i, step in enumerate(steps):
        numbers = [str(step["counters"][size][name]) for size in sizes for name in _POOL]
        free = step["counters"]["memory"]["free_bytes"] >> 20
        table.add_row(str(i + 1), Text(step_words(file, i)), _outcome(step), *numbers, str(free))
    return table


def _sizes(steps: Sequence[Answer]) -> list[str]:
    """The pools that ever have a page; the smallest if none has."""
    known = [size for size in steps[0]["counters"] if size.endswith("kB")]
    used = [size for size in known if any(step["counters"][size]["nr_hugepages"] for step in steps)]
    return used or known[-1:]


def step_words(file: ScenarioFile, index: int) -> str:
    """``resize count=16``: a step in one line."""
    step = file.scenario.steps[index]
    given = file.scenario.given["steps"][index]
    label = f"{step.label}: " if step.label else ""
    data = f" <- {_short(given['data'])}" if "data" in given else ""
    words = f"{label}{step.word} {_value(given[step.word])}"
    return f"{_cut(words, MAX_STEP)}{data}".rstrip()


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_short(part)}" for name, part in value.items())
    return "" if value is None else _short(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else to_json(value).decode()
    return _cut(text.replace("\n", "\\n"), MAX_VALUE)


def _cut(text: str, length: int) -> str:
    """Of a path the end says more than the beginning."""
    if len(text) <= length:
        return text
    return f"...{text[3 - length :]}" if text.startswith("/") else f"{text[: length - 3]}..."


def _outcome(step: Answer) -> str:
    if step["errno"] is None:
        missing = ((step["result"] or {}).get("shortfall") or {}).get("missing")
        words = ("ok", step["signal"], missing and f"{missing} missing")
        return ", ".join(word for word in words if word)
    return f"{step['errno']} {step['reason'] or ''}".rstrip()


# -- variants ----------------------------------------------------------------------------------------------


def _variant_table(answer: Answer) -> Table:
    rows: Sequence[Answer] = answer["variants"]
    paths = list(dict.fromkeys(path for row in rows for path in row["values"]))
    columns = list(rows[0]["columns"]) if rows else []
    table = _table(*paths, "outcome")
    for path in columns:
        table.add_column(Text(path.removeprefix("steps.")), justify="right", no_wrap=True)
    for row in rows:
        values = [_short(row["values"][path]) if path in row["values"] else "" for path in paths]
        shown = [
            _short(row["columns"][path]) if row["columns"].get(path) is not None else "-" for path in columns
        ]
        table.add_row(str(row["variant"] + 1), *map(Text, values), _row_outcome(row), *map(Text, shown))
    return table


def _row_outcome(row: Answer) -> str:
    if row["error"] is not None:
        return str(row["error"]["errno"])
    refused = f", {row['refused']} refused" if row["refused"] else ""
    return ("ok" if row["ok"] else "FAILED") + refused


# -- JUnit -------------------------------------------------------------------------------------------------


def junit(answers: Sequence[tuple[ScenarioFile, Answer]]) -> bytes:
    """All answers as a JUnit report: a suite for each file, a case for each step or variant."""
    root = ET.Element("testsuites")
    for file, answer in answers:
        cases = list(_cases(file, answer))
        failed = sum(bool(why) for _, why, _ in cases)
        suite = ET.SubElement(
            root, "testsuite", name=_xml(file.title), file=_xml(str(file.path)), tests=str(len(cases)),
            failures=str(failed), errors="0",
        )  # fmt: skip
        for name, why, console in cases:
            case = ET.SubElement(suite, "testcase", classname=_xml(file.title), name=_xml(name))
            if why:
                ET.SubElement(case, "failure", message=_xml(why[0])).text = _xml("\n".join(why))
            if console:
                ET.SubElement(case, "system-out").text = _xml("\n".join(console))
    ET.indent(root)
    text: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return text


def _cases(file: ScenarioFile, answer: Answer) -> Iterator[tuple[str, list[str], list[str]]]:
    """Name, what failed, and what the kernel printed."""
    if "variants" in answer:
        for row in answer["variants"]:
            values = ", ".join(f"{path}={_short(value)}" for path, value in row["values"].items())
            yield f"{row['variant'] + 1} {values}", _row_failures(row), []
        return
    for i, step in enumerate(answer["steps"]):
        why = [failure["message"] for failure in step["failed_expectations"]]
        yield f"{i + 1} {step_words(file, i)}", why, step["console"]


def _row_failures(row: Answer) -> list[str]:
    if row["error"] is not None:
        return [f"{row['error']['errno']}: {row['error']['detail']}"]
    return [f"step {failure['step'] + 1}: {failure['message']}" for failure in row["failed_expectations"]]


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)
