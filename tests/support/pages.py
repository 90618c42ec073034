"""The page at ``/`` in a browser: signing in, its tabs, and what axe finds wrong with it."""

from __future__ import annotations

from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe

from tests.support.browser import Window

_AXE = Axe()


def sign_in(window: Window, url: str, token: str) -> None:
    """Open the page of a server and give it an API token, by keyboard."""
    assert window.open(f"{url}/") == 200
    window.page.locator("#token").focus()
    window.page.keyboard.type(token)
    window.press("Enter")
    window.wait_for("!document.getElementById('signed-in').hidden")


def go_to(window: Window, tab: str) -> None:
    """Choose a tab by keyboard: the arrow keys go round."""
    window.page.get_by_role("tab", selected=True).focus()
    for _ in range(window.page.get_by_role("tab").count()):
        if window.focused("element.textContent") == tab:
            return
        window.press("ArrowRight")
    raise AssertionError(f"there is no tab {tab}")


def violations(window: Window) -> list[tuple[str, Any]]:
    """Return what axe finds wrong: each rule with the elements that break it. In dark only contrasts are looked at."""
    found = []
    schemes: list[tuple[Literal["light", "dark"], dict[str, Any]]] = [
        ("light", {}),
        ("dark", {"runOnly": ["color-contrast"]}),
    ]
    for scheme, options in schemes:
        window.page.emulate_media(color_scheme=scheme)
        answer = _AXE.run(window.page, options={"resultTypes": ["violations"]} | options).response
        for violation in answer["violations"]:
            found.append((f"{scheme}: {violation['id']}", [node["target"] for node in violation["nodes"]]))
    return found
