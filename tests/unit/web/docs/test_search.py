from __future__ import annotations

from graycat.web.docs.library import Guide
from graycat.web.docs.search import MAX_RESULTS, Index, split

GUIDES = (
    Guide("docs/a.md", "a", "Apples", "# Apples\n\nRed ones.\n\n## Pie\n\nBake *apples* [slowly](x.md).\n"),
    Guide("docs/b.md", "b", "Pears", "# Pears\n\nGreen, in a pie.\n"),
    Guide("docs/c.py", "c.py", "c.py", "pie = 3\n"),
)


def test_a_guide_is_split_by_its_headings() -> None:
    assert [(section.anchor, section.text) for section in split(GUIDES[0])] == [
        ("apples", "Red ones."),
        ("pie", "Bake apples slowly."),
    ]


def test_a_section_with_the_word_in_its_heading_comes_first() -> None:
    found = Index(reversed(GUIDES)).find("PIE")
    assert [(result.section.slug, result.section.anchor) for result in found] == [("a", "pie"), ("b", "pears")]
    assert found[1].excerpt == "Green, in a pie."


def test_all_words_must_be_there() -> None:
    assert [result.section.slug for result in Index(GUIDES).find("pie green")] == ["b"]
    assert Index(GUIDES).find("pie unknown") == Index(GUIDES).find("  ") == []


def test_an_excerpt_begins_and_ends_with_whole_words() -> None:
    words = [f"word{number}" for number in range(100)]
    guide = Guide("docs/w.md", "w", "Words", f"# Words\n\n{' '.join(words)}\n")
    excerpt = Index([guide]).find("word50")[0].excerpt
    assert set(excerpt.split()) - {"…"} <= set(words)
    assert (excerpt.split()[0], excerpt.split()[-1], "word50" in excerpt) == ("…", "…", True)


def test_the_results_are_bounded() -> None:
    many = Guide("docs/m.md", "m", "Many", "\n".join(f"## H{n}\n\nword {'x' * 500}\n" for n in range(2 * MAX_RESULTS)))
    found = Index([many]).find("word" + " " * 200 + "beyond what is read")
    assert len(found) == MAX_RESULTS
    assert len(found[0].excerpt) < 300
