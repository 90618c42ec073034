"""Guides as HTML: Markdown as GitHub shows it (tables, the same anchors), and links that lead to the same places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from graycat.web.docs.library import DOCS, Guide, Library

#: Returns the address of a guide by its slug.
Address = Callable[[str], str]
_TAGS = re.compile(r"<[^>]+>")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a page, and its anchor."""

    level: int
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A guide as HTML."""

    html: str
    headings: tuple[Heading, ...] = ()

    @property
    def contents(self) -> tuple[Heading, ...]:
        """Return the headings of the page's own table of contents."""
        return tuple(heading for heading in self.headings if heading.level == 2)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.use(anchors_plugin, max_level=4)
    # A wide table scrolls by itself, by keyboard, too.
    parser.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>')
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    return parser


PARSER = _parser()


def render(library: Library, guide: Guide, address: Address) -> Page:
    """Return a guide as a page whose links to other guides are what ``address`` returns."""
    if not guide.is_markdown:
        return Page(f"<h1>{escape(guide.title)}</h1>\n<pre><code>{escape(guide.text)}</code></pre>\n")
    tokens = PARSER.parse(guide.text)
    headings = tuple(_headings(tokens))
    for link in links_of(tokens):
        _redirect(link, library, guide, address)
    for picture in pictures_of(tokens):
        slug = picture_slug(guide, str(picture.attrGet("src")))
        if slug in library.pictures:
            picture.attrSet("src", address(slug))
    return Page(PARSER.renderer.render(tokens, PARSER.options, {}), headings)


def _headings(tokens: list[Token]) -> Iterator[Heading]:
    for token, content in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            html = PARSER.renderer.render([content], PARSER.options, {})
            yield Heading(int(token.tag[1]), str(token.attrGet("id") or ""), _TAGS.sub("", html))


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a guide: the tokens that open and close it."""

    opens: Token
    closes: Token

    @property
    def target(self) -> str:
        """Return the address, as it is written."""
        return str(self.opens.attrGet("href"))


def links_of(tokens: list[Token]) -> Iterator[Link]:
    """Yield the links of a page."""
    for token in tokens:
        opened: Token | None = None
        for child in token.children or []:
            if child.type == "link_open":
                opened = child
            elif child.type == "link_close" and opened is not None:
                yield Link(opened, child)


def pictures_of(tokens: list[Token]) -> Iterator[Token]:
    """Yield the pictures of a page."""
    for token in tokens:
        yield from (child for child in token.children or [] if child.type == "image")


def picture_slug(guide: Guide, source: str) -> str:
    """Return the slug of a picture that a guide shows; '' if it is no file of the repository."""
    found = resolve(guide, source)
    return "" if found is None else found[0].removeprefix(DOCS)


def resolve(guide: Guide, target: str) -> tuple[str, str] | None:
    """Return the path in the repository that a link of a guide leads to, and its anchor; None if it leads elsewhere."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    path = guide.path
    if parts.path:
        path = normpath(join(dirname(guide.path), unquote(parts.path)))
    return path, parts.fragment


def _redirect(link: Link, library: Library, guide: Guide, address: Address) -> None:
    found = resolve(guide, link.target)
    if found is None:
        link.opens.attrSet("rel", "noreferrer")
        return
    path, anchor = found
    if path == guide.path:
        return
    other = library.by_path.get(path) or library.by_path.get(f"{path}/README.md")
    if other is not None:
        link.opens.attrSet("href", address(other.slug) + (f"#{anchor}" if anchor else ""))
    elif path == f"{DOCS}decisions":
        link.opens.attrSet("href", f"{address('')}#decisions")
    else:
        _unlink(link, path)


def _unlink(link: Link, path: str) -> None:
    """Show a link to a file that is in the repository alone as its text, with the path as a hint."""
    attributes: dict[str, Any] = {"class": "file", "title": f"In the repository: {path}"}
    link.opens.tag = link.closes.tag = "span"
    link.opens.attrs = attributes
