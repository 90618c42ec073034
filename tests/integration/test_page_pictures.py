"""The pictures of docs/page.md, made only with ``--page-pictures``: the page as ``make run`` shows it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.support.browser import Window
from tests.support.pages import go_to, sign_in
from tests.support.processes import eventually
from tests.support.stack import ROOT, Stack, running

FOLDER = ROOT / "docs" / "pictures"
SIZE = {"width": 960, "height": 760}
TALL = SIZE | {"height": 1500}
END_S = 60.0
#: A picture of the guide may have so many bytes, and its colours are reduced to so many.
MAX_BYTES, COLOURS = 150_000, 192


def save(window: Window, name: str) -> None:
    """Write what the window shows."""
    FOLDER.mkdir(exist_ok=True)
    picture = Image.open(BytesIO(window.page.screenshot())).convert("RGB")
    picture.quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)


def test_the_pictures_of_the_guide_are_made(
    request: pytest.FixtureRequest, tmp_path: Path, new_window: Callable[..., Window]
) -> None:
    if not request.config.getoption("--page-pictures"):
        pytest.skip("only with --page-pictures")
    env = {"RUN_SD": "true", "GRAYCAT_ADMINS": "tests", "GRAYCAT_BOX": "box7"}
    with running(Stack(tmp_path / "home", env=env)) as stack:
        dark = new_window(viewport=TALL, color_scheme="dark")
        light = new_window(viewport=SIZE, color_scheme="light")
        light.open(f"{stack.url}/")
        save(light, "page")
        sign_in(light, stack.url, stack.token)
        light.page.locator("#chat-input").fill("What is the capital of Japan?")
        light.page.locator("#chat-input").press("Enter")
        light.wait_for("document.getElementById('chat-status').textContent.startsWith('Complete')")
        save(light, "page-chat")
        light.page.set_viewport_size({"width": 960, "height": 1290})
        go_to(light, "Images")
        light.page.locator("#image-prompt").fill("a lighthouse at night")
        light.page.locator("#image-make").press("Enter")
        light.wait_for("document.getElementById('image-status').textContent.startsWith('Done')")
        save(light, "page-images")
        operator = stack.client()
        operator.post("/queues/sd/pause")
        eventually(lambda: any("sd" in worker["left"] for worker in operator.get("/status").json()["workers"]), END_S)
        for prompt in ("a lighthouse", "a harbour"):
            operator.post("/tasks", {"kind": "sd.txt2img", "input": {"prompt": prompt}})
        sign_in(dark, stack.url, stack.token)
        go_to(dark, "Console")
        dark.wait_for("document.querySelectorAll('#console-tasks tr').length > 2")
        dark.page.evaluate("document.activeElement.blur()")
        save(dark, "page-console")


def test_the_guide_shows_pictures_that_are_there_and_small() -> None:
    text = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
    files = sorted(FOLDER.glob("*.png"))
    assert [file.name for file in files if f"](pictures/{file.name})" not in text] == []
    assert len(files) == 4
    assert [file.name for file in files if file.stat().st_size > MAX_BYTES] == []
