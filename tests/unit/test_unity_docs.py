"""What docs/unity.md and the example's README name is there: tests, templates, errors, settings, files, headings."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from graycat.settings import Settings, variable
from graycat.web.compat.unity_templates import _MARKS, DEFAULT

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "unity.md").read_text()
EXAMPLE = ROOT / "examples" / "unity"
ABOUT = (EXAMPLE / "README.md").read_text()
#: Names of tests, ``FILE`` or ``FILE::FUNCTION``.
NAMED = sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", GUIDE)))
#: Tables whose last column says how a statement is known, by the heading above them.
PROVEN = ("Field by field", "Images", "Your own code")

pytestmark = pytest.mark.not_covered


def section(heading: str) -> str:
    """Return what stands below a heading of the guide, up to the next of any level."""
    return re.split(r"^#+ ", GUIDE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table of a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def anchor(heading: str) -> str:
    """Return the fragment by which a heading is linked."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_guide_names_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    (path,) = ROOT.glob(f"tests/integration/{file}") if function else [next(ROOT.glob(f"tests/**/{file}"))]
    assert f"def {function}(" in path.read_text() or not function


def test_what_to_type_comes_before_how_it_is_known() -> None:
    assert GUIDE.index("\n## Five minutes\n") < GUIDE.index("**How we know.**") < GUIDE.index("| source |")


@pytest.mark.parametrize("heading", PROVEN)
def test_each_row_says_how_it_is_known(heading: str) -> None:
    found = rows(section(heading))
    assert len(found) >= 3
    assert [row for row in found if not re.search(r"source|measured|untried|`test_", row[-1])] == []


def test_the_templates_are_those_that_are_answered() -> None:
    told = {row[1] for row in rows(section("Templates"))}
    names = {name for cell in told for name in re.findall(r"`([^`]+)`", cell)}
    assert names == {name for name, _ in _MARKS} | {DEFAULT}
    marks = {mark for _, marks in _MARKS for mark in marks}
    assert marks == set(
        re.findall(r"`([^`]+)`", " ".join(row[0] for row in rows(section("Templates"))).replace("\\|", "|"))
    )


def test_each_error_and_setting_of_the_guide_is_one() -> None:
    errors = (ROOT / "docs" / "errors.md").read_text()
    types = re.findall(r"\b\d{3} `(\w+)`", GUIDE)
    assert types
    assert [kind for kind in types if f"`{kind}`" not in errors] == []
    settings = {variable(field.name) for field in fields(Settings)}
    assert set(re.findall(r"\bGRAYCAT_[A-Z_]+", GUIDE)) - {"GRAYCAT_TOKEN"} <= settings


def test_each_link_of_the_guide_leads_somewhere() -> None:
    for file, fragment in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", GUIDE):
        path = ROOT / "docs" / file if file else ROOT / "docs" / "unity.md"
        assert path.exists(), file
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if path.is_file() else []
        assert not fragment or fragment in {anchor(heading) for heading in headings}, (file, fragment)


def test_the_example_s_readme_compiles_and_lists_all_of_it() -> None:
    sources = {path.name for path in EXAMPLE.glob("*.cs")}
    assert set(re.findall(r"\w+\.cs", ABOUT.partition("mcs ")[2].partition("export")[0])) == sources - {
        "GraycatBehaviour.cs"
    }
    listed = set(re.findall(r"`([\w./]+)`", ABOUT.partition("|---|---|")[2].partition("## ")[0]))
    assert sources | {"token_server.py", "webgl/"} <= listed


def test_no_file_of_the_core_knows_unity() -> None:
    users = {path.name for path in EXAMPLE.glob("*.cs") if "UnityEngine" in path.read_text()}
    assert users == {"GraycatBehaviour.cs"}


def test_the_example_s_readme_names_every_variable() -> None:
    sources = (EXAMPLE / "Program.cs").read_text() + (EXAMPLE / "token_server.py").read_text()
    read = set(re.findall(r'Variable\("(\w+)"', sources)) | set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', sources))
    table = ABOUT.partition("| variable |")[2].partition("## ")[0]
    for_tests = {"PATIENCE_S", "SILENCE_S", "FIELDS", "STOP_AFTER", "ONE_CALL"}
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == read - for_tests
