from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest

from graycat.batches.gallery.page import (
    FOLDER_POLICY,
    MAX_ALT_CHARS,
    POLICY,
    Card,
    Page,
    build_card,
    count_finished,
    render,
    summarize,
)

ROW: dict[str, Any] = {"number": 3, "state": "done", "prompt": "a tavern", "seed": 42, "error": None, "file": "a.png"}
NASTY = """</script><script>alert(1)</script><img src=x onerror=alert(2)>"' {{ 7*7 }}"""


class Seen(HTMLParser):
    """The elements of a page, with their attributes, and the texts in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(*cards: Card, **changes: Any) -> Page:
    fields: dict[str, Any] = {"name": "two", "summary": "running", "total": 4, "finished": 1, "cards": cards}
    return Page(**(fields | changes))


def test_an_image_is_shown_with_what_it_was_made_from() -> None:
    seen = Seen(render(page(build_card(ROW, "images/3", "thumbnails/3"))))
    picture = next(image for image in seen.all("img") if image.get("src"))
    assert (picture["src"], picture["alt"]) == ("thumbnails/3", "Image 3: a tavern")
    assert [link["href"] for link in seen.all("a") if link.get("class") == "picture"] == ["images/3"]
    assert {"a tavern", "done", ", seed 42"} <= set(seen.text)


def test_what_an_item_is_among_the_others_stands_before_its_prompt() -> None:
    seen = Seen(render(page(build_card(ROW | {"label": "steps 20"}, "i", "t"))))
    assert {"steps 20", "a tavern"} <= set(seen.text)
    assert next(image for image in seen.all("img") if image.get("src"))["alt"] == "Image 3: steps 20. a tavern"
    # What the prompt says, also if that is cut, is not said twice.
    for label in ("a tavern", "a tav…", ""):
        assert build_card(ROW | {"label": label}).label == ""


def test_an_item_without_an_image_says_so_and_why() -> None:
    row = ROW | {"state": "failed", "seed": -1, "error": {"type": "engine_lost", "message": "the engine went away"}}
    text = " ".join(Seen(render(page(build_card(row)))).text)
    assert "no image yet" in text
    assert "the engine went away" in text
    assert "seed" not in text.partition("Image 3")[2].partition("const")[0]


def test_what_a_prompt_holds_is_text() -> None:
    card = build_card(ROW | {"prompt": NASTY, "error": {"message": NASTY}}, "i", "t")
    html = render(page(card, name=NASTY))
    seen = Seen(html)
    assert len(seen.all("script")) == 1
    assert not [attributes for _, attributes in seen.elements if any(name.startswith("on") for name in attributes)]
    assert NASTY in seen.text
    assert "49" not in "".join(seen.text).partition("const")[0]


def test_every_picture_has_an_alternative_text_and_nothing_comes_from_elsewhere() -> None:
    html = render(page(build_card(ROW, "i", "t"), build_card(ROW | {"number": 4, "prompt": ""}, "i", "t")))
    seen = Seen(html)
    assert all("alt" in image for image in seen.all("img"))
    assert [image["alt"] for image in seen.all("img")] == ["Image 3: a tavern", "Image 4", ""]
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", html)
    assert seen.all("link") == [{"rel": "icon", "href": "data:,"}]


def test_a_long_prompt_is_cut_in_the_alternative_text_alone() -> None:
    card = build_card(ROW | {"prompt": "x" * 1000}, "i", "t")
    assert len(card.alt) == MAX_ALT_CHARS
    assert "x" * 1000 in render(page(card))


def test_the_policy_lets_nothing_run_but_what_is_in_the_page() -> None:
    html = render(page())
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in POLICY
        assert f"{tag}-src 'sha256-{digest}'" in FOLDER_POLICY
    assert "unsafe" not in POLICY + FOLDER_POLICY
    assert POLICY.startswith("default-src 'none'")
    assert not re.search(r" style=| on\w+=", html)


def test_a_page_in_a_folder_has_its_policy_and_polls_nothing() -> None:
    seen = Seen(render(page(in_a_folder=True)))
    (policy,) = [meta["content"] for meta in seen.all("meta") if meta.get("http-equiv")]
    assert policy == FOLDER_POLICY
    assert "data-live" not in seen.all("main")[0]


def test_pages_are_linked() -> None:
    seen = Seen(render(page(previous="p", following="f", live="l", all="z")))
    assert [link["href"] for link in seen.all("a")] == ["#images", "p", "f", "z"]
    assert seen.all("main")[0]["data-live"] == "l"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "running: 1 of 4 images done, 1 failed, 1 running"),
        ({"eta_s": 0.3}, "about 1 s left"),
        ({"eta_s": 400}, "about 7 min left"),
        ({"eta_s": 9000}, "about 2 h left"),
        ({"state": "paused", "reason": "there is no space left"}, "paused: 1 of 4 images done"),
        ({"reason": "there is no space left"}, "there is no space left"),
    ],
)
def test_how_far_a_batch_is(changes, words) -> None:
    progress = {"waiting": 1, "queued": 0, "running": 1, "done": 1, "failed": 1, "cancelled": 0}
    view = {"state": "running", "total": 4, "progress": progress, "eta_s": None, "reason": ""} | changes
    assert words in summarize(view)
    assert count_finished(progress) == 2


def test_half_a_character_of_an_earlier_release_is_no_obstacle() -> None:
    page = Page("x", "done", 1, 1, [Card(1, "done", "half \ud83d", 1, error="\udcff")])
    assert "half ?" in render(page).encode().decode()
