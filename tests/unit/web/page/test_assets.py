"""The files of the page: their addresses, their headers, and what is not in them."""

from __future__ import annotations

import re

import pytest

from graycat.web.page import assets

NAMES = sorted(path.name for path in assets.FOLDER.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_kept_for_good_under_its_address(web, name: str) -> None:
    digest, files = assets.load()
    assert name in files
    address = f"/page/{digest}/{name}"
    response = web.get(address, headers={"Authorization": ""})
    assert (response.status_code, response.data) == (200, (assets.FOLDER / name).read_bytes())
    assert response.content_type == assets.CONTENT_TYPES[f".{name.rpartition('.')[2]}"]
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    tag = response.headers["ETag"]
    assert web.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert web.head(address).data == b""


@pytest.mark.parametrize(
    "path", ["0000000000000000/app.js", "{digest}/nothing.js", "{digest}/page.html", "{digest}/..%2fassets.py"]
)
def test_another_address_is_no_file(web, path: str) -> None:
    response = web.get(f"/page/{path.format(digest=assets.load()[0])}")
    assert (response.status_code, response.json["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_no_script_makes_markup_of_texts_or_keeps_anything(name: str) -> None:
    """Model's answers, names and errors are hostile: they are texts, and the API token is in memory alone."""
    text = (assets.FOLDER / name).read_text(encoding="utf-8")
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\("
        r"|new Function|localStorage|sessionStorage|indexedDB|document\.cookie|[?&](?:token|key)=|history\."
    )
    assert re.findall(forbidden, text) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_a_script_imports_only_files_that_are_there(name: str) -> None:
    text = (assets.FOLDER / name).read_text(encoding="utf-8")
    assert [found for found in re.findall(r"from \"([^\"]+)\"", text) if found.removeprefix("./") not in NAMES] == []


def test_the_stylesheet_asks_for_nothing() -> None:
    text = (assets.FOLDER / "page.css").read_text(encoding="utf-8")
    assert re.findall(r"url\(|@import", text) == []
    assert "prefers-color-scheme: dark" in text
    assert "prefers-reduced-motion" in text
