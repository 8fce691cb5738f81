"""Scenario files: what YAML means in them, and where what is wrong stands."""

from pathlib import Path

import pytest

from hugepool.whatif.document import WrongFile, read_scenario

GOOD = """\
host:
  spec:
    cmdline: hugetlb_free_vmemmap=on
    nodes: [{memory: 1G}]
steps:
  - resize: {count: 8}
"""


def write(tmp_path: Path, text: str | bytes) -> Path:
    """A file of this text."""
    file = tmp_path / "scenario.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def findings(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is wrong with a file, without its folder."""
    with pytest.raises(WrongFile) as wrong:
        read_scenario(write(tmp_path, text))
    return [finding.removeprefix(f"{tmp_path}/") for finding in wrong.value.findings]


def test_a_good_file_is_a_scenario(tmp_path: Path) -> None:
    found = read_scenario(write(tmp_path, GOOD))
    assert (found.title, len(found.scenario.steps), found.variants) == ("scenario", 1, [])


def test_json_is_yaml(tmp_path: Path) -> None:
    text = '{"host": "lab", "name": "n\\u00e4h", "steps": [{"resize": {"count": 8}}]}'
    assert read_scenario(write(tmp_path, text)).title == "näh"


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("012", "012"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
        ("0x1f", "0x1f"),
        ("-7", -7),
        ("1.5e3", 1500.0),
        ("9" * 40, "9" * 40),
        ("nullable", "nullable"),
        ("'8'", "8"),
    ],
)
def test_plain_words_mean_what_they_mean_in_json(tmp_path: Path, plain: str, value: object) -> None:
    text = f"{GOOD}    expect: {{result.nodes: [{plain}]}}\n"
    if plain == "":
        text = f"{GOOD}    expect: {{result.nodes: [null]}}\n"
    (step,) = read_scenario(write(tmp_path, text)).scenario.steps
    (found,) = step.expect["result.nodes"]
    assert (found, type(found)) == (value, type(value))


def test_everything_wrong_is_reported_with_its_line(tmp_path: Path) -> None:
    text = GOOD + "  - offline: 4\n    exepct: {}\n  - resize: {cuont: 8}\n"
    assert findings(tmp_path, text) == [
        "scenario.yaml:8: steps[1].exepct: is not a known field; see /openapi.json for those there are",
        "scenario.yaml:9: steps[2].resize.count: is required",
        "scenario.yaml:9: steps[2].resize.cuont: is not a known field; see /openapi.json for those there are",
    ]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (GOOD + "steps: 3\n", "scenario.yaml:7: 'steps' is there a second time"),
        (
            GOOD + "  - exit: vm\n",
            "scenario.yaml:7: steps[1].exit: no task or fork step before this one is labelled 'vm'",
        ),
        (GOOD + "variants:\n  grid:\n    steps.7.offline: [1]\n", "scenario.yaml:8: variants.grid: with "),
        (GOOD + "name: !!python/name:os.system x\n", "scenario.yaml:7: the tag "),
        (GOOD + "name: !!int x\n", "scenario.yaml:7: 'x' is not what its tag says"),
        (GOOD + "? [a]\n: b\n", "scenario.yaml:7: the name of a field must be a plain text"),
        (GOOD + "  - &a [*a]\n", "scenario.yaml:7: the document is too large, or nested too deeply"),
        (GOOD + "  - " + "[" * 5000, "scenario.yaml: the document is nested too deeply"),
        ("a: [1,\nb: {", "scenario.yaml:2: is not YAML: "),
        ("[1]", "scenario.yaml:1: must be a mapping with host and steps"),
        ("", "scenario.yaml:1: must be a mapping with host and steps"),
        ("a: b\n---\nc: d\n", "scenario.yaml:2: is not YAML: "),
        (b"\xff\xfe\xff", "scenario.yaml: is not UTF-8 text"),
        ("a: \x01", "scenario.yaml: is not YAML: "),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path: Path, text: str | bytes, finding: str) -> None:
    (found,) = findings(tmp_path, text)
    assert found.startswith(finding)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (found,) = findings(tmp_path, "\n".join(lines))
    assert found.endswith("the document is too large, or nested too deeply")


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(WrongFile, match=f"^{path}: {why}$"):
            read_scenario(path)


def test_json_as_other_programs_write_it_is_read(tmp_path: Path) -> None:
    text = '{\n\t"host": "lab",\n\t"name": "\\ud83d\\ude00",\n\t"steps": [{"drain": {}}]\n}'
    assert read_scenario(write(tmp_path, text)).title == "\U0001f600"
