from __future__ import annotations

import re
from pathlib import Path

import pytest

from graycat.web.docs import site
from graycat.web.docs.library import Guide, Library

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def guides() -> Library:
    return Library.read()


def test_every_link_of_the_guides_leads_somewhere(guides: Library) -> None:
    assert site.find_broken_links(guides, ROOT) == []


def test_a_link_that_leads_nowhere_is_named() -> None:
    good = "[c](../setup.cfg), [d](#a), [e](https://example.com/gone)"
    text = f"# A\n\n[a](gone.md), [b](#none), {good}, [f](tasks.md#no), ![g](gone.png)\n"
    library = Library([Guide("docs/tasks.md", "tasks", "A", text)])
    assert site.find_broken_links(library, ROOT) == [
        "docs/tasks.md: there is no docs/gone.md",
        "docs/tasks.md: docs/tasks.md has no heading #none",
        "docs/tasks.md: docs/tasks.md has no heading #no",
        "docs/tasks.md: there is no docs/gone.png",
    ]


def test_the_site_is_whole_in_itself(guides: Library, tmp_path: Path) -> None:
    site.write(guides, tmp_path)
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) == len(guides.by_slug)
    for page in pages:
        for link in re.findall(r'(?:href|src)="(?!https?:|data:|#)([^"#]*)', page.read_text()):
            assert (page.parent / link).is_file(), f"{page}: {link}"


def test_a_broken_link_fails_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    library = Library([Guide("docs/index.md", "", "A", "# A\n\n[a](gone.md)\n")])
    monkeypatch.setattr(Library, "read", lambda: library)
    assert site.main(str(tmp_path)) == 1
    assert capsys.readouterr().err == "docs/index.md: there is no docs/gone.md\n"
