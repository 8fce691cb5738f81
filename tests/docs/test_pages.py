"""What the pages name is there: links, code, recordings, tests; and lists that claim to be complete are."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from hugepool.mm.machine.events import Event
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.reasons import Reason
from hugepool.replay.run import replay
from hugepool.settings import Settings
from hugepool.whatif.steps import STEPS
from tests.docs.console import ROOT

APP = ROOT / "app" / "hugepool"
TRACES = ROOT / "tests" / "data" / "traces"
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MM = [room for room in sorted((APP / "mm").iterdir()) if room.is_dir()]
MODEL = ROOT / "docs" / "model.md"
RULES = ROOT / "docs" / "kernel-rules.md"
CODE = [file for top in ("app", "tests", "tools", "examples") for file in sorted((ROOT / top).rglob("*.py"))]
HTTP = ROOT / "docs" / "http.md"
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX)\b")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CALL = re.compile(r"`([a-z_/]+)\.(\w+)(?:\.(\w+))?\(\)`")
PATH = re.compile(
    r"`((?:app|tests|docs|examples|docker|openapi|migrations|fs|store|api|replay|mm|forms|mirror|whatif|jobs|harness|tools)/[\w./-]*)`"
)
RECORDING = re.compile(r"`([a-z]_[a-z0-9_]+(?:-[0-9.]+-HVO(?:on|off))?)`")
TEST = re.compile(r"\b(test_\w+)\b")
SCRIPT = re.compile(r"\b(0\d-[a-z-]+)\b")
CITED = re.compile(r"kernel-rules\.md((?:(?:,| and)? \d+(?:\.\d+)*)+)")
KERNELS_OWN = re.compile(r"(fs|mm)/.*(\.[ch]|Kconfig)")  # files of the kernel, not of this repository
REASON = re.compile(r"`([a-z]+(?:-[a-z]+)*)`")
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def rows(page: Path, heading: str) -> Iterator[list[str]]:
    """Cells of the table rows below a heading of the second level."""
    inside = False
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            inside = line == f"## {heading}"
        elif inside and line.startswith("|") and not line.startswith("|-"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def rules() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the model's tables with four columns: rule, state, where, shown by."""
    for line in MODEL.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "rule":
            yield cells[0], cells[1], cells[2], cells[3]


@cache
def names_in(file: Path) -> frozenset[str]:
    """Functions and classes of a module, those inside classes included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, kinds))


# -- every page --------------------------------------------------------------------------------------------


@by_name
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


@by_name
def test_code_that_a_page_names_is_there(page: Path) -> None:
    for module, *name in CALL.findall(page.read_text()):
        places = [folder / f"{module}.py" for folder in (*MM, APP, APP / "service")]
        file = next((place for place in places if place.exists()), None)
        assert file is not None, module
        assert names_in(file).issuperset(filter(None, name)), f"{file}: {name}"


@by_name
def test_files_that_a_page_names_are_there(page: Path) -> None:
    for name in PATH.findall(page.read_text()):
        if KERNELS_OWN.fullmatch(name):
            continue
        assert (ROOT / name).exists() or (APP / name).exists(), name


@by_name
def test_a_page_has_short_lines_and_no_leftovers(page: Path) -> None:
    text = page.read_text()
    assert not LEFTOVER.findall(text)
    assert text.endswith("\n")
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    prose = [line for line in _outside_blocks(text) if not line.startswith("|")]
    assert max(map(len, prose)) <= 125


def _outside_blocks(text: str) -> list[str]:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()


def test_every_decision_has_a_number_that_no_other_has() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name.partition("-")[0]) for page in pages]
    assert sorted(set(numbers)) == numbers
    headings = [page.read_text().partition("\n")[0] for page in pages]
    assert [heading.partition(". ")[0] for heading in headings] == [f"# {number}" for number in numbers]


# -- the table of rules ------------------------------------------------------------------------------------


def recordings(name: str) -> list[Path]:
    """The recording of a name, or all that begin with it."""
    exact = TRACES / f"{name}.json.gz"
    return [exact] if exact.exists() else sorted(TRACES.glob(f"{name}-*.json.gz"))


def test_every_rule_has_a_state_and_what_is_modelled_a_place() -> None:
    found = list(rules())
    assert len(found) > 90
    for rule, state, where, _shown in found:
        assert state, rule
        assert where or state.startswith("not modelled"), rule


def kernel_rules() -> tuple[set[str], set[str]]:
    """Numbers of the kernel's rules: of the sections without subsections, and of all that can be cited."""
    sections: list[str] = []
    steps: set[str] = set()
    for line in RULES.read_text().splitlines():
        if match := re.match(r"##+ (\d+(?:\.\d+)?)\.? ", line):
            sections.append(match[1])
        elif line.startswith("#"):
            sections.append("")
        elif sections and sections[-1] and (match := re.match(r"(\d+)\. ", line)):
            steps.add(f"{sections[-1]}.{match[1]}")
    known = set(filter(None, sections))
    whole = {number for number in known if not any(other.startswith(f"{number}.") for other in known)}
    return whole, known | steps


def test_every_section_of_the_kernels_rules_has_a_row() -> None:
    numbers = {match[0] for rule, *_ in rules() if (match := re.match(r"\d+(\.\d+)?", rule))}
    whole, known = kernel_rules()
    assert len(whole) > 60
    assert {number for number in whole if not {number, number.partition(".")[0]} & numbers} == set()
    assert numbers <= known


def test_every_rule_that_is_cited_is_there() -> None:
    _, known = kernel_rules()
    cited = {
        number
        for file in [*CODE, *PAGES]
        for numbers in CITED.findall(file.read_text())
        for number in re.findall(r"\d+(?:\.\d+)*", numbers)
    }
    assert len(cited) > 10
    assert cited <= known


def test_tests_and_scripts_that_show_a_rule_are_there() -> None:
    tests = {file.stem for file in (ROOT / "tests").rglob("test_*.py")}
    scripts = {file.stem for file in (ROOT / "examples" / "curl").glob("*.sh")}
    for rule, _state, _where, shown in rules():
        assert tests.issuperset(TEST.findall(shown)), rule
        assert scripts.issuperset(SCRIPT.findall(shown)), rule


SHOWN = sorted({name for *_, shown in rules() for name in RECORDING.findall(shown)})


@pytest.mark.parametrize("name", SHOWN)
def test_recordings_that_show_a_rule_replay_with_no_counter_off(name: str) -> None:
    found = recordings(name)
    assert found
    for path in found:
        assert replay(path).first_off is None, path.name


# -- lists that claim to be complete -----------------------------------------------------------------------


@pytest.mark.parametrize("page", [ROOT / "README.md", MODEL], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_that_lists_the_kernels_lists_all(page: Path) -> None:
    *older, newest = PROFILES
    assert f"{', '.join(older)} and {newest}" in re.sub(r"\s+", " ", page.read_text())


def test_the_list_of_reasons_is_complete() -> None:
    listed = {word for cells in rows(HTTP, "Reasons") for word in REASON.findall(cells[0])}
    assert listed == set(Reason)


def test_the_list_of_events_is_complete() -> None:
    listed = {word for cells in rows(HTTP, "Events") for word in re.findall(r"`(\w+)`", cells[0])}
    assert listed == set(Event)


def test_every_reason_and_event_is_used() -> None:
    text = "".join(file.read_text() for file in APP.rglob("*.py"))
    for word in (*Reason, *Event):
        assert f"{type(word).__name__}.{word.name}" in text, word


def test_the_list_of_tables_is_complete() -> None:
    text = (APP / "store" / "tables.py").read_text()
    tables = set(re.findall(r'= Table\(\s*"(\w+)"', text))
    page = ROOT / "docs" / "architecture.md"
    listed = {word for cells in rows(page, "Tables") for word in re.findall(r"`(\w+)`", cells[0])}
    assert listed == tables


def test_the_list_of_what_a_host_of_the_harness_has_is_complete() -> None:
    tree = ast.parse((APP / "harness" / "host.py").read_text())
    methods = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    page = ROOT / "docs" / "harness.md"
    listed = {word for cells in rows(page, "The host") for word in re.findall(r"`(\w+)`", cells[0])}
    assert listed == {name for name in methods | attributes if not name.startswith("_")}


def test_the_list_of_steps_is_complete() -> None:
    page = ROOT / "docs" / "what-if.md"
    listed = {word for cells in rows(page, "Steps") for word in re.findall(r"`(\w+)`", cells[0])}
    assert listed == STEPS.keys()


def test_the_list_of_settings_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "operations.md"
    listed = [cells for cells in rows(page, "Settings") if cells[0] != "variable"]
    assert listed == [
        [f"`HUGEPOOL_{name.upper()}`", _as_variable(field.default), str(field.description)]
        for name, field in Settings.model_fields.items()
    ]


def _as_variable(default: object) -> str:
    """A default as it would be set; nothing for what is not set."""
    if default is None or default == ():
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@by_name
def test_settings_that_a_page_names_are_there(page: Path) -> None:
    names = (*Settings.model_fields, "url", "token", "name")  # the last stands for any
    known = {f"HUGEPOOL_{name.upper()}" for name in names}
    assert set(re.findall(r"HUGEPOOL_[A-Z_]*[A-Z]", page.read_text())) <= known
