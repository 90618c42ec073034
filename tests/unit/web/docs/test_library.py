from __future__ import annotations

from pathlib import Path

import pytest

from graycat.web.docs.library import DECIDED, FILES, GUIDES, PROJECT, REPOSITORY, Library

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def guides() -> Library:
    return Library.read()


def test_every_markdown_file_of_docs_is_a_guide(guides: Library) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert files <= set(guides.by_path)
    assert {"README.md", "CHANGELOG.md", "docker/README.md"} <= set(guides.by_path)
    assert len(guides.by_slug) == len(guides.by_path)


def test_what_stands_beside_the_guides_is_in_the_repository() -> None:
    for path in REPOSITORY.rglob("*.md"):
        assert (ROOT / path.relative_to(REPOSITORY)).read_text() == path.read_text()


def test_a_guide_that_is_added_is_there(tmp_path: Path) -> None:
    (tmp_path / "docs" / "cookbook").mkdir(parents=True)
    (tmp_path / "docs" / "index.md").write_text("# Index\n\n[a](second.md)\n")
    (tmp_path / "docs" / "cookbook" / "soup.md").write_text("no heading")
    (tmp_path / "docs" / "first.md").write_text("# The `first` one\n")
    (tmp_path / "docs" / "second.md").write_text("# The second\n")
    (tmp_path / "docs" / "secret.key").write_text("no guide")
    found = Library.read(tmp_path)
    assert {guide.slug for guide in found.by_path.values()} == {"", "cookbook/soup", "first", "second"}
    # What the index links to comes first.
    assert [guide.title for guide in found.section(GUIDES)] == ["The second", "soup.md", "The first one"]


def test_each_guide_is_in_a_section(guides: Library) -> None:
    sections = {name: {guide.path for guide in guides.section(name)} for name in (GUIDES, DECIDED, PROJECT, FILES)}
    assert "docs/tasks.md" in sections[GUIDES]
    assert any(path.startswith("docs/decisions/") for path in sections[DECIDED])
    assert {"README.md", "examples/unity/README.md"} <= sections[PROJECT]
    assert {"docs/examples/task.py", "examples/unity/GraycatClient.cs"} <= sections[FILES]
    assert sum(map(len, sections.values())) == len(guides.by_path) - 1
