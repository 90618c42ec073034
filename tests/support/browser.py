"""A real browser for tests: headless Chromium, driven by Playwright.

The browser is Debian's (package ``chromium``), never one that Playwright downloads. Where it is missing, tests are
skipped at home and fail in CI.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.processes import eventually

#: Milliseconds that anything a page does may take: far more than it takes, on a machine that is busy.
PATIENCE_MS = 30_000
#: It runs as root in CI, and asks nobody for updates.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def program() -> str:
    """Return where the browser is. Skips the test where there is none; in CI the test fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is not None:
        return found
    reason = "needs a browser: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser for the block. Playwright's event loop lives as long: keep the block to a test module."""
    path = program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A window of its own, without cookies; remembers what went wrong in it and what it asked for.

    ``errors``: errors of the console and of scripts. ``addresses``: every address that it asked for, in order. ``page``
    is Playwright's. The options are those of ``Browser.new_context``: ``http_credentials``, ``extra_http_headers``, ...
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.errors: list[str] = []
        self.addresses: list[str] = []
        self._context: BrowserContext = browser.new_context(**options)
        self._context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def open(self, url: str) -> int:
        """Go to an address; return the status of the answer, once the page is loaded."""
        response = self.page.goto(url)
        assert response is not None
        return int(response.status)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, such as ``Tab`` or ``Enter``."""
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self, script: str = "element.outerHTML") -> Any:
        """Return what a script tells of the ``element`` that has the focus."""
        return self.page.evaluate(f"(() => {{ const element = document.activeElement; return {script}; }})()")

    def wait_for(self, script: str) -> None:
        """Return when a script's value is true."""
        # Playwright's own way is a script in the page, which a strict policy forbids.
        eventually(lambda: self.page.evaluate(script), PATIENCE_MS / 1000)

    def picture(self) -> Image.Image:
        """Return a screenshot of the whole page."""
        return Image.open(BytesIO(self.page.screenshot(full_page=True))).convert("RGB")

    def close(self) -> None:
        """Close it."""
        self._context.close()


def colours(picture: Image.Image) -> int:
    """Return how many colours a picture has; a blank one has one."""
    found = picture.getcolors(maxcolors=2**24)
    assert found is not None
    return len(found)
