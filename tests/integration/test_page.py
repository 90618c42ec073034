"""The page at ``/`` in a real browser, used by keyboard: chat, images, tasks, batches and the console."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.browser import Window
from tests.support.images import ADMIN, ANNA, QUICK, SLOW, ImageStack
from tests.support.pages import go_to, sign_in, violations
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, Stack

#: What would run, or be fetched, if it were not text.
NASTY = """<script>window.hit = 1</script><img src=x onerror="window.hit = 2">"'><svg/onload=window.hit=3>"""
SHORT_NASTY = "<img src=x onerror=window.hit=4>"
#: The widths of a small phone, and of a window of 1,280 pixels at 400 %.
NARROW = 320
END_S = 120.0
#: What runs a request that the page shows as code. Only a machine with Node.js runs the last one.
RUNNERS = (
    ("curl", "request.sh", "bash"),
    ("Python", "request.py", sys.executable),
    ("JavaScript", "request.mjs", "node"),
)

NewWindow = Callable[..., Window]


@pytest.fixture
def window(new_window: NewWindow) -> Iterator[Window]:
    """Yield a window in which nothing may go wrong, and which may ask nobody but the server."""
    opened = new_window(viewport={"width": 960, "height": 720})
    yield opened
    assert opened.errors == []
    assert opened.page.evaluate("window.hit") is None
    origin = opened.page.evaluate("location.origin")
    assert [address for address in opened.addresses if not address.startswith((origin, f"blob:{origin}"))] == []
    # The API token is in a header, and the page keeps nothing.
    assert [address for address in opened.addresses if "?" in address and "token" in address] == []
    assert opened.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_without_javascript_it_says_what_there_is(studio: ImageStack, new_window: NewWindow) -> None:
    window = new_window(java_script_enabled=False)
    assert window.open(f"{studio.url}/") == 200
    text = window.page.inner_text("main")
    assert "Ready" in text
    assert f"curl {studio.url}/v1/chat/completions" in text
    assert window.page.get_by_role("link", name="API and guides").get_attribute("href") == "docs"
    assert not window.page.locator("#token-form").is_visible()


def test_a_token_that_nobody_has_is_told_why(studio: ImageStack, new_window: NewWindow) -> None:
    window = new_window()
    window.open(f"{studio.url}/")
    window.page.locator("#token").fill("nobody's")
    window.press("Enter")
    window.wait_for("document.getElementById('token-error').textContent.includes('API token')")
    assert window.page.get_by_role("tab").count() == 0
    assert violations(window) == []


def test_a_chat_is_written_as_it_comes_and_can_be_stopped(stack: Stack, window: Window) -> None:
    sign_in(window, stack.url, stack.token)
    assert window.focused("element.textContent") == "Chat"
    for name, value in (("tokens", "2000"), ("temperature", "0"), ("system", "")):
        window.page.locator(f"#chat-{name}").evaluate("(field, value) => { field.value = value }", value)
    window.page.locator("#chat-input").focus()
    window.page.keyboard.type(SHORT_NASTY)
    window.press("Enter")
    assert window.focused("element.textContent") == "Stop"
    answer = "document.querySelector('#messages .assistant .text')?.textContent"
    eventually(lambda: window.page.evaluate(answer), END_S)
    window.press("Enter")
    window.wait_for("document.getElementById('chat-status').textContent.startsWith('Stopped')")
    assert eventually(lambda: not stack.live(), END_S)
    assert window.focused("element.id") == "chat-input"
    assert window.page.locator("#messages .user .text").text_content() == SHORT_NASTY
    assert violations(window) == []


def test_a_question_that_nothing_can_answer_comes_back(studio: ImageStack, new_window: NewWindow) -> None:
    window = new_window()
    sign_in(window, studio.url, studio.token)
    window.page.locator("#chat-input").fill("Hello?")
    window.press("Enter")
    # Waits for the sentence of the error, not the one about the answer that is awaited.
    window.wait_for("document.getElementById('chat-status').textContent.includes('RUN_LLM')")
    assert window.page.locator("#chat-input").input_value() == "Hello?"
    assert window.page.locator("#messages li").count() == 0


def test_the_request_as_code_runs(stack: Stack, window: Window, tmp_path: Path) -> None:
    sign_in(window, stack.url, stack.token)
    window.page.locator("#chat-tokens").evaluate("field => { field.value = 3 }")
    window.page.locator("#chat-input").fill("It's \"3\" o'clock. \\ $HOME `x` {{y}} ünï\nNo?")
    window.page.locator("[data-sample=chat] summary").press("Enter")
    for language, name, command in RUNNERS:
        code = sample(window, "chat", language)
        assert stack.token not in code
        if shutil.which(command) is None:
            continue
        (tmp_path / name).write_text(code)
        words, env = [command, str(tmp_path / name)], os.environ | {"GRAYCAT_TOKEN": stack.token}
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=REQUEST_S, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip(), language


def sample(window: Window, name: str, language: str) -> str:
    """Return a request as code, as the page shows it."""
    panel = window.page.locator(f"[data-sample={name}]")
    panel.get_by_label("Language").select_option(language)
    return panel.locator("code").text_content() or ""


def test_an_image_is_followed_and_is_a_task_then(studio: ImageStack, window: Window) -> None:
    sign_in(window, studio.url, studio.tokens[ANNA])
    assert [tab.text_content() for tab in window.page.get_by_role("tab").all()] == [
        "Chat", "Images", "My tasks", "Batches",
    ]  # fmt: skip
    go_to(window, "Images")
    for name, value in (("width", 64), ("height", 64), ("steps", 40)):
        window.page.locator(f"#image-{name}").fill(str(value))
    window.page.locator("#image-prompt").fill(NASTY)
    window.page.locator("#image-make").press("Enter")
    assert window.focused("element.id") == "image-stop"
    window.wait_for("document.getElementById('image-progress').value > 0")
    window.wait_for("document.getElementById('image-status').textContent.startsWith('Done')")
    assert window.page.locator("#image-result img").evaluate("image => image.naturalWidth") == 64
    assert window.page.locator("#image-result img").get_attribute("alt") == f"Image of: {NASTY}"
    window.page.locator("[data-sample=image] summary").press("Enter")
    body = json.loads(sample(window, "image", "C#").split('"""')[1])
    assert (body["kind"], body["input"]["prompt"]) == ("sd.txt2img", NASTY)
    assert violations(window) == []

    go_to(window, "My tasks")
    window.page.get_by_role("button", name="Show the task").first.press("Enter")
    window.wait_for("document.querySelector('#task-details img')?.naturalWidth === 64")
    assert window.focused("element.textContent").startswith("Task ")
    assert violations(window) == []


def test_an_image_can_be_cancelled(studio: ImageStack, window: Window) -> None:
    sign_in(window, studio.url, studio.tokens[ANNA])
    go_to(window, "Images")
    window.page.locator("#image-steps").fill("150")
    window.page.locator("#image-prompt").fill("a slow one")
    window.page.locator("#image-make").press("Enter")
    window.wait_for("document.querySelector('#image-result img')?.naturalWidth > 0")
    assert window.page.locator("#image-result figcaption").text_content() == "Preview"
    window.press("Enter")
    window.wait_for("document.getElementById('image-status').textContent.includes('ancelled')")
    assert window.focused("element.id") == "image-prompt"
    assert window.page.locator("#image-result img").count() == 0


def test_a_batch_is_planned_submitted_and_its_gallery_opens(studio: ImageStack, window: Window) -> None:
    sign_in(window, studio.url, studio.tokens[ANNA])
    go_to(window, "Batches")
    window.page.locator("#panel-batches summary").first.press("Enter")
    window.page.locator("#batch-name").fill(NASTY[:60])
    for name, value in (("width", 64), ("height", 64), ("steps", 1)):
        window.page.locator(f"#batch-{name}").fill(str(value))
    window.page.locator("#batch-prompts").fill("a knight\n\na bard")
    window.page.get_by_role("button", name="Dry run").press("Enter")
    window.wait_for("document.getElementById('batches-status').textContent.startsWith('A dry run: 2 images')")
    window.page.locator("#batch-form").get_by_role("button", name="Submit").press("Enter")
    window.wait_for("document.querySelector('#batches-table td')?.textContent.startsWith('<script>')")
    assert violations(window) == []
    window.page.get_by_role("button", name="Gallery of").first.press("Enter")
    window.wait_for("document.activeElement.textContent.startsWith('Gallery of')")
    with window.page.context.expect_page() as opened:
        window.press("Enter")
    opened.value.wait_for_load_state()
    assert "/gallery?" in opened.value.url
    opened.value.close()


def open_console(studio: ImageStack, window: Window) -> None:
    """Open the console of an admin; return when it shows the workers."""
    sign_in(window, studio.url, studio.tokens[ADMIN])
    go_to(window, "Console")
    window.wait_for("document.querySelectorAll('#console-workers tr').length > 1")


def press_button(window: Window, name: str, then: str) -> None:
    """Press a button by keyboard; return when another one stands in its place and has the focus."""
    window.page.get_by_role("button", name=name, exact=True).press("Enter")
    window.wait_for(f"document.activeElement.getAttribute('aria-label') === '{then}'")


def test_an_operator_pauses_and_resumes_queues_and_workers(studio: ImageStack, window: Window) -> None:
    open_console(studio, window)
    press_button(window, "Pause the queue sd.batch", "Resume the queue sd.batch")
    press_button(window, "Resume the queue sd.batch", "Pause the queue sd.batch")
    (worker,) = [row["name"] for row in studio.client().get("/ready").json()["workers"] if "sd" in row["queues"]]
    press_button(window, f"Pause {worker}", f"Resume {worker}")
    press_button(window, f"Resume {worker}", f"Pause {worker}")
    # The next tests need it.
    eventually(studio.ready, END_S)


def test_an_operator_sees_who_waits_and_cancels(studio: ImageStack, window: Window) -> None:
    anna = studio.caller(ANNA)
    task_id = anna.post("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "x"} | SLOW}).json()["id"]
    open_console(studio, window)
    cell = f"[...document.querySelectorAll('#console-tasks td')].some((cell) => cell.textContent === '{task_id}')"
    window.wait_for(cell)
    assert "Everything that should serve does" in (window.page.locator("#console-verdict").text_content() or "")
    assert window.page.locator("#console-owners td").first.text_content() == ANNA
    assert "prompt" not in window.page.inner_text("#console-tasks")
    assert violations(window) == []
    window.page.get_by_role("button", name=f"Cancel the task {task_id}").press("Enter")
    assert eventually(lambda: anna.get(f"/tasks/{task_id}").json()["state"] == "cancelled", END_S)


def test_a_token_that_is_revoked_ends_the_session(studio: ImageStack, new_window: NewWindow) -> None:
    window = new_window()
    admin = studio.caller(ADMIN)
    minted = admin.post("/tokens", {"name": "for-an-hour", "scopes": ["sd"]}).json()
    sign_in(window, studio.url, minted["token"])
    assert [tab.text_content() for tab in window.page.get_by_role("tab").all()] == ["Images", "My tasks"]
    go_to(window, "My tasks")
    assert admin.request("DELETE", f"/tokens/{minted['prefix']}").status_code == 204
    window.wait_for("document.getElementById('token-error').textContent.includes('revoked')")
    assert window.focused("element.id") == "token"
    assert not window.page.locator("#signed-in").is_visible()


def test_who_comes_next_sees_nothing_of_who_was_there(studio: ImageStack, window: Window) -> None:
    open_console(studio, window)
    window.page.get_by_role("button", name="Forget the token").press("Enter")
    assert window.focused("element.id") == "token"
    assert window.page.locator("#token").input_value() == ""
    assert window.page.locator("#signed-in td").count() == 0
    assert window.page.locator("#messages li, #image-result img, #task-details *, #console-notes li").count() == 0


def test_it_fits_a_small_screen(studio: ImageStack, new_window: NewWindow) -> None:
    window = new_window(viewport={"width": NARROW, "height": 640})
    studio.caller(ANNA).post("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "x"} | QUICK})
    sign_in(window, studio.url, studio.tokens[ADMIN])
    for tab in ("Chat", "Images", "My tasks", "Batches", "Console"):
        go_to(window, tab)
        assert window.page.evaluate("document.documentElement.scrollWidth") <= NARROW, tab
    assert window.errors == []
