"""The gallery of a batch in a real browser, while the batch runs and when it has ended."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Window, colours
from tests.support.images import ImageStack
from tests.support.processes import eventually
from tests.support.stack import Client

#: What would run, or be fetched, if it were not text.
NASTY = """<script>window.hit = 1</script><img src=x onerror="window.hit = 2">"'><svg/onload=window.hit=3> {{ 7*7 }}"""
PROMPTS = ["a knight at the bar", NASTY, "a thief, grinning", "ein Bär mit Hut"]
#: An image takes a second, so a browser sees some of them come.
SPEC = {"name": "tavern & friends", "items": PROMPTS, "defaults": {"width": 96, "height": 64, "steps": 50}}
END_S = 60.0
LOADED = "[...document.querySelectorAll('main img')].filter((image) => image.complete && image.naturalWidth > 0).length"

NewWindow = Callable[..., Window]


@pytest.fixture(scope="module")
def anna(studio: ImageStack) -> Client:
    return studio.client()


@pytest.fixture(scope="module")
def done(anna: Client) -> dict[str, Any]:
    """Return a batch that has succeeded."""
    batch = anna.post("/batches", SPEC | {"defaults": {"width": 96, "height": 64, "steps": 2}}).json()
    return ended(anna, batch["id"])


@pytest.fixture
def shown(done: dict[str, Any], anna: Client, new_window: NewWindow) -> Iterator[Window]:
    """Yield a window with the gallery of that batch, opened by a link; nothing may go wrong in it."""
    window = new_window()
    assert window.open(link(anna, done["id"])) == 200
    # Those further down are fetched when they come into sight.
    window.page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager' })")
    window.wait_for(f"{LOADED} === {len(PROMPTS)}")
    yield window
    assert window.errors == []
    assert [address for address in window.addresses if not address.startswith((anna.url, "data:"))] == []


def ended(client: Client, batch_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/batches/{batch_id}").json()
        return found if found["state"] in ("succeeded", "failed") else None

    found = eventually(look, END_S) or {}
    assert found["state"] == "succeeded"
    return found


def link(client: Client, batch_id: str) -> str:
    return client.url + str(client.post(f"/batches/{batch_id}/gallery/link", {}).json()["url"])


def test_while_a_batch_runs_its_images_come_by_themselves(anna: Client, new_window: NewWindow) -> None:
    batch_id = anna.post("/batches", SPEC).json()["id"]
    window = new_window()
    assert window.open(link(anna, batch_id)) == 200
    assert window.page.locator("main img").count() < len(PROMPTS)
    window.wait_for(f"document.querySelectorAll('main img').length === {len(PROMPTS)}")
    window.wait_for("document.getElementById('summary').textContent.startsWith('succeeded: 4 of 4')")
    assert window.page.locator("progress").evaluate("bar => bar.value / bar.max") == 1
    assert [text.strip() for text in window.page.locator(".prompt").all_text_contents()] == PROMPTS
    assert window.page.evaluate("window.hit") is None
    assert window.errors == []


def test_the_page_is_a_picture_and_its_prompts_are_text(shown: Window) -> None:
    picture = shown.picture()
    assert min(picture.size) > 300
    assert colours(picture) > 100
    assert shown.page.locator(".prompt").all_text_contents() == PROMPTS
    assert shown.page.evaluate("window.hit") is None
    assert shown.page.title() == SPEC["name"]


def test_every_image_says_what_it_shows_and_the_page_what_it_is(shown: Window) -> None:
    alts = shown.page.locator("main img").evaluate_all("images => images.map((image) => image.alt)")
    assert alts == [f"Image {number}: {prompt}" for number, prompt in enumerate(PROMPTS, start=1)]
    assert shown.page.locator("html").get_attribute("lang") == "en"
    for role in ("main", "navigation", "banner", "status", "progressbar", "list"):
        assert shown.page.get_by_role(role).count() == 1, role
    seeds = shown.page.locator(".facts").all_text_contents()
    assert all("done" in text and "seed" in text for text in seeds)


def test_it_is_used_by_keyboard_alone(shown: Window) -> None:
    shown.press("Tab")
    assert shown.focused("element.textContent") == "To the images"
    shown.press("Enter", "Tab")
    at = "element.querySelector('img').alt.slice(0, 7)"
    assert shown.focused(at) == "Image 1"
    shown.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert shown.focused(at) == "Image 2"
    assert shown.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    shown.press("Enter")
    large = "document.querySelector('dialog[open] img')"
    shown.wait_for(f"{large} && {large}.complete && {large}.naturalWidth === 96")
    assert shown.page.evaluate(f"{large}.alt") == f"Image 2: {NASTY}"
    shown.press("ArrowRight")
    shown.wait_for(f"{large}.alt.startsWith('Image 3') && {large}.complete && {large}.naturalWidth === 96")
    assert shown.focused("element.textContent") == "Close"
    shown.press("Escape")
    shown.wait_for("!document.querySelector('dialog[open]')")
    # The page hears of a closed dialog a moment later, and gives the focus back.
    shown.wait_for("document.activeElement.querySelector('img')?.alt.startsWith('Image 3')")
    assert shown.page.evaluate("window.hit") is None


def test_all_images_come_down_as_a_zip(shown: Window, tmp_path: Path, done: dict[str, Any]) -> None:
    with shown.page.expect_download() as coming:
        shown.page.get_by_role("link", name="Download all images").press("Enter")
    coming.value.save_as(tmp_path / "all.zip")
    assert coming.value.suggested_filename == f"tavern-friends-{done['id']}.zip"
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(PROMPTS) + 1


def test_without_a_link_the_browser_asks_and_an_api_token_is_the_answer(
    studio: ImageStack, done: dict[str, Any], new_window: NewWindow
) -> None:
    address = f"{studio.url}/batches/{done['id']}/gallery"
    refused = Client(studio.url).get(f"/batches/{done['id']}/gallery")
    assert (refused.status_code, refused.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    window = new_window(http_credentials={"username": "anybody", "password": studio.token})
    assert window.open(address) == 200
    window.wait_for(f"{LOADED} > 0")


def test_a_link_that_was_changed_shows_nothing(anna: Client, done: dict[str, Any], new_window: NewWindow) -> None:
    window = new_window()
    assert window.open(link(anna, done["id"]).replace("expires=1", "expires=2")) == 403
    assert window.page.locator("img").count() == 0


def test_the_folder_of_the_batch_has_the_same_page(
    studio: ImageStack, done: dict[str, Any], new_window: NewWindow
) -> None:
    folder = studio.home / "batches" / done["folder"]
    eventually((folder / "index.html").exists, END_S)
    window = new_window()
    window.page.goto(f"file://{folder / 'index.html'}")
    window.page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager' })")
    window.wait_for(f"{LOADED} === {len(PROMPTS)}")
    assert window.page.locator(".prompt").all_text_contents() == PROMPTS
    window.press("Tab", "Enter", "Tab", "Enter")
    large = "document.querySelector('dialog[open] img')"
    window.wait_for(f"{large} && {large}.complete && {large}.naturalWidth === 96")
    assert window.page.evaluate("window.hit") is None
    assert window.errors == []
    assert all(address.startswith(("file:", "data:")) for address in window.addresses)
