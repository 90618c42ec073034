"""The guides: every Markdown file of ``docs/``, and those beside it that describe the repository.

They lie below ``repository/`` as they do in the repository, so that links between them work in both places. In a
source checkout these are symbolic links; a wheel has copies (``package_data`` in setup.cfg). A new guide needs no entry
anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

REPOSITORY = Path(__file__).parent / "repository"
DOCS, INDEX, DECISIONS = "docs/", "docs/index.md", "docs/decisions/"
GUIDES, DECIDED, PROJECT, FILES = "Guides", "Decisions", "The project", "Files"
#: Pictures of guides, and their content types.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
#: Folders whose files are shown, by their suffixes: guides, and the examples that they link to.
FOLDERS = ("docs", "examples")
SUFFIXES = frozenset({".md", ".py", ".sh", ".cs", ".toml", ".json", ".yaml", ".yml", ".js", ".html"})

_HEADING = re.compile(r"^#\s+(.+?)\s*$", re.MULTILINE)
_MARKS = re.compile(r"[`*]")


@dataclass(frozen=True, slots=True)
class Guide:
    """A file that is shown as a page.

    ``path``: where it lies in the repository. ``slug``: the end of its address, '' for the index.
    """

    path: str
    slug: str
    title: str
    text: str

    @property
    def section(self) -> str:
        """Return the part of the table of contents that the guide is in."""
        if not self.is_markdown:
            return FILES
        if self.path.startswith(DECISIONS):
            return DECIDED
        return GUIDES if self.path.startswith(DOCS) else PROJECT

    @property
    def is_markdown(self) -> bool:
        """Return whether the file is Markdown; another one, such as an example in Python, is shown as it is."""
        return self.path.endswith(".md")


class Library:
    """All guides, by their slugs and by their paths in the repository; and their pictures, by their slugs."""

    def __init__(self, guides: list[Guide], pictures: Mapping[str, Path] = MappingProxyType({})) -> None:
        self.by_slug: Mapping[str, Guide] = {guide.slug: guide for guide in guides}
        self.pictures = pictures
        self.by_path: Mapping[str, Guide] = {guide.path: guide for guide in guides}

    @classmethod
    def read(cls, root: Path = REPOSITORY) -> Library:
        """Read all guides below a folder."""
        docs = root / DOCS
        pictures = {path.relative_to(docs).as_posix(): path for path in docs.rglob("*") if path.suffix in PICTURES}
        return cls([_read(root, path) for path in sorted(set(_paths(root)))], pictures)

    def section(self, name: str) -> list[Guide]:
        """Return the guides of a section: those that the index links to first, in its order."""
        index = self.by_path.get(INDEX)
        text = "" if index is None else index.text

        def place(guide: Guide) -> tuple[int, str]:
            found = text.find(f"({guide.path.removeprefix(DOCS)}")
            return (len(text) if found < 0 else found, guide.path)

        return sorted((guide for guide in self.by_slug.values() if guide.section == name and guide.slug), key=place)


def _paths(root: Path) -> Iterator[str]:
    # A search does not follow links to folders, but may begin at one.
    found = [*root.rglob("*.md")]
    for folder in FOLDERS:
        found += (path for path in (root / folder).rglob("*") if path.suffix in SUFFIXES)
    for path in found:
        if path.is_file():
            yield path.relative_to(root).as_posix()


def _read(root: Path, path: str) -> Guide:
    text = (root / path).read_text(encoding="utf-8")
    slug = path.removeprefix(DOCS).removesuffix(".md").lower()
    if path == INDEX:
        slug = ""
    heading = _HEADING.search(text) if path.endswith(".md") else None
    title = path.rpartition("/")[2] if heading is None else _MARKS.sub("", heading[1])
    return Guide(path, slug, title, text)
