"""Writes the guides as one static site, and refuses a link that leads nowhere: ``python -m graycat.web.docs.site``."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path, PurePosixPath
from posixpath import dirname, relpath

from jinja2 import Environment, PackageLoader, select_autoescape

from graycat.web.docs import library
from graycat.web.docs.library import DOCS, PICTURES, REPOSITORY, Guide, Library
from graycat.web.docs.markdown import PARSER, links_of, pictures_of, render, resolve


def find_broken_links(guides: Library, root: Path) -> list[str]:
    """Return a line for each link to a file or an anchor that is not in the repository ``root``."""
    anchors = {path: _anchors(guides, guide) for path, guide in guides.by_path.items()}
    broken = []
    for guide in guides.by_path.values():
        if not guide.is_markdown:
            continue
        tokens = PARSER.parse(guide.text)
        targets = [link.target for link in links_of(tokens)]
        targets += [str(picture.attrGet("src")) for picture in pictures_of(tokens)]
        for target in targets:
            found = resolve(guide, target)
            if found is None:
                continue
            path, anchor = found
            if not (root / path).exists():
                broken.append(f"{guide.path}: there is no {path}")
            elif anchor and anchor not in anchors.get(path, set()):
                broken.append(f"{guide.path}: {path} has no heading #{anchor}")
    return broken


def _anchors(guides: Library, guide: Guide) -> set[str]:
    return {heading.anchor for heading in render(guides, guide, str).headings}


def write(guides: Library, target: Path) -> None:
    """Write the guides into a folder as HTML files, which any web server or browser can show."""
    environment = Environment(
        loader=PackageLoader("graycat.web.docs"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("docs/page.html")
    for slug, guide in guides.by_slug.items():
        path = target / _file(slug)

        def address(other: str, start: str = dirname(_file(slug))) -> str:
            return relpath(_file(other), start or ".")

        html = template.render(
            library=guides,
            sections=library,
            guide=guide,
            page=render(guides, guide, address),
            address=address,
            links={"css": relpath("docs.css", dirname(_file(slug)) or ".")},
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    for slug, picture in guides.pictures.items():
        (target / slug).parent.mkdir(parents=True, exist_ok=True)
        (target / slug).write_bytes(picture.read_bytes())
    (target / "docs.css").write_bytes(files("graycat.web.docs").joinpath("static", "docs.css").read_bytes())


def _file(slug: str) -> str:
    if PurePosixPath(slug).suffix in PICTURES:
        return slug
    return f"{slug or 'index'}.html"


def main(target: str) -> int:
    """Write the site; return 1 if a link leads nowhere."""
    guides = Library.read()
    broken = find_broken_links(guides, (REPOSITORY / DOCS).resolve().parent)
    for line in broken:
        sys.stderr.write(line + "\n")
    write(guides, Path(target))
    sys.stdout.write(f"{len(guides.by_slug)} pages in {target}, {len(broken)} broken links\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
