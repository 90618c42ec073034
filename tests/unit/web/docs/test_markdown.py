from __future__ import annotations

import re
from pathlib import Path

import pytest

from graycat.web.docs.library import Guide, Library
from graycat.web.docs.markdown import render, resolve

TASKS = Guide("docs/tasks.md", "tasks", "Tasks", "# Tasks\n")
README = Guide("docker/README.md", "docker/readme", "Containers", "# Containers\n")
INDEX = Guide("docs/index.md", "", "Index", "# Index\n")


def shown(text: str, path: str = "docs/page.md") -> str:
    guide = Guide(path, "page", "Page", text)
    library = Library([guide, TASKS, README, INDEX])
    return render(library, guide, lambda slug: f"/guides/{slug}".rstrip("/")).html


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("tasks.md", "/guides/tasks"),
        ("tasks.md#submit", "/guides/tasks#submit"),
        ("../docker/README.md", "/guides/docker/readme"),
        ("../docker", "/guides/docker/readme"),
        ("index.md", "/guides"),
        ("decisions", "/guides#decisions"),
        ("#here", "#here"),
        ("https://example.com/a", "https://example.com/a"),
    ],
)
def test_a_link_leads_to_the_page_of_its_file(target: str, expected: str) -> None:
    assert f'<a href="{expected}"' in shown(f"[a]({target})")


def test_a_link_to_a_file_that_is_no_page_is_its_text() -> None:
    html = shown("[the test](../tests/test_a.py)")
    assert '<span class="file" title="In the repository: tests/test_a.py">the test</span>' in html
    assert "<a" not in html


def test_a_picture_is_shown_from_where_it_is_served() -> None:
    guide = Guide(
        "docs/deep/a.md", "deep/a", "A", "![a](../pictures/a.png) ![b](../gone.png) ![c](https://b.example/c.png)\n"
    )
    library = Library([guide], {"pictures/a.png": Path("a.png")})
    html = render(library, guide, lambda slug: f"/guides/{slug}").html
    assert re.findall(r'src="([^"]*)"', html) == ["/guides/pictures/a.png", "../gone.png", "https://b.example/c.png"]


def test_headings_have_github_s_anchors() -> None:
    html = shown("# A `GET` — and, more!\n\n## Twice\n\n## Twice\n")
    assert 'id="a-get--and-more"' in html
    assert 'id="twice"' in html
    assert 'id="twice-1"' in html


def test_a_wide_table_scrolls() -> None:
    assert '<div class="table" tabindex="0"><table>' in shown("| a | b |\n|---|---|\n| 1 | 2 |\n")


def test_an_example_in_another_language_is_shown_as_it_is() -> None:
    assert "&lt;b&gt;" in shown("print('<b>')", "docs/examples/a.py")


def test_the_contents_are_the_second_headings() -> None:
    guide = Guide("docs/a.md", "a", "A", "# A\n\n## One `x`\n\n### Deep\n\n## Two\n")
    page = render(Library([guide]), guide, str)
    assert [(heading.anchor, heading.text) for heading in page.contents] == [("one-x", "One x"), ("two", "Two")]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("mailto:a@example.com", None), ("../a%20b.md#c", ("a b.md", "c")), ("#c", ("docs/tasks.md", "c"))],
)
def test_where_a_link_leads(target: str, expected: tuple[str, str] | None) -> None:
    assert resolve(TASKS, target) == expected
