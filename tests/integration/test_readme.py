"""The README's commands, run as they stand there; only address and API token are this stack's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.stack import BIN, ROOT, Client, Stack

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL = [block for language, block in BLOCKS if not language]
#: A command is a line, and what follows a backslash at its end; what stands behind a `#` is for the reader.
COMMANDS = [line.partition("  #")[0] for block in SHELL for line in block.replace("\\\n", "").splitlines()]
CURLS = [line.strip() for line in COMMANDS if line.strip().startswith("curl ")]
TASKS = [
    line.strip() for line in COMMANDS if line.startswith(("graycat task ", "graycat tokens usage", "graycat status"))
]
BATCHES = [line.strip() for line in COMMANDS if line.startswith(("graycat batch ", "graycat schedule "))]
TAVERN = next(block for language, block in BLOCKS if language == "toml")
#: Run by .ci/run itself, by the tests of `graycat up`, by `make pythons`, or shown output.
ELSEWHERE = {
    "make run",
    "make test",
    "pip install 'graycat[embedded]'",
    "graycat up",
    ". .venv/bin/activate",
    "PORT=8001 LLM_PORT=1338 SD_PORT=7861 FLOWER_PORT=5556 GRAYCAT_HOME=./var2 make run",
}
#: They set something up for what follows.
TOKEN, SECOND = "TOKEN=$(cat var/api-token)", "GRAYCAT_HOME=./var2 graycat status"
#: What a stack with an image engine answers.
IMAGES = ("/sdapi/", "/generate-image", "/v1/images/", " sd.", "/tasks/picture-1")
#: A task of the README, and the command that submits it: twice, it is still one.
STORY = "story-1"
SUBMIT_STORY = next(line for line in CURLS if line.startswith("curl -X PUT") and STORY in line)
#: Submits the image of the README, and waits for it.
MAKE_PICTURE = [line for line in CURLS if "tasks/picture-1" in line and not line.endswith(".png")]


@pytest.fixture
def serving(request: pytest.FixtureRequest) -> Stack:
    """Return the stack that can answer a command, with the tasks that it names."""
    command = request.node.callspec.params["command"]
    about_images = any(mark in command for mark in IMAGES)
    stack: Stack = request.getfixturevalue("studio" if about_images else "stack")
    if STORY in command:
        curl(stack, SUBMIT_STORY)
    if "/tasks/picture-1" in command:
        for line in MAKE_PICTURE:
            curl(stack, line)
    return stack


def filled_in(text: str, stack: Stack) -> str:
    """Return a text of the README with this stack's address and API token."""
    for token in ("$TOKEN", "gc_..."):
        text = text.replace(token, stack.token)
    return text.replace("http://127.0.0.1:8000", stack.url)


def curl(stack: Stack, command: str) -> requests.Response:
    """Return the answer to what a curl line sends."""
    words = shlex.split(filled_in(command, stack))
    options = list(zip(words, words[1:], strict=False))
    headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
    data, user, method = (next((value for name, value in options if name == flag), None) for flag in ("-d", "-u", "-X"))
    path = next(word for word in words if word.startswith(stack.url)).removeprefix(stack.url)
    client = Client(stack.url)
    with client.session:
        auth = tuple(user.split(":", 1)) if user else None
        return client.request(method or ("POST" if data else "GET"), path, data=data, headers=headers, auth=auth)


def test_every_command_is_one_that_a_test_runs() -> None:
    printed = {
        "graycat is ready at http://127.0.0.1:8000",
        "Ctrl-C stops everything.",
        "Try it in another terminal:",
        "",
    }
    # Run as they are printed by test_first_chat.py.
    printed |= {"cd /home/me/graycat", ". .venv/bin/activate", "export TOKEN=gc_...", ""}
    others = {line.strip() for line in COMMANDS} - set(CURLS) - set(TASKS) - set(BATCHES) - ELSEWHERE - printed
    others -= {TOKEN, SECOND}
    assert {line for line in others if not line.startswith("celery ")} == set()
    assert {language for language, _ in BLOCKS} == {"", "python", "toml"}
    assert len(CURLS) >= 6


def shell(command: str, folder: Path, env: dict[str, str]) -> str:
    """Return what a shell prints."""
    words = ["/bin/sh", "-ec", command]
    env = env | {"PATH": f"{BIN}:/usr/bin:/bin"}
    return subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_token_lies_where_the_other_lines_take_it_from(tmp_path: Path) -> None:
    assert TOKEN in COMMANDS
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "api-token").write_text("gc_secret\n")
    assert shell(f"{TOKEN}; echo $TOKEN", tmp_path, {}) == "gc_secret\n"


def test_the_status_of_a_second_copy_is_not_that_of_the_first(stack: Stack, tmp_path: Path) -> None:
    assert SECOND in COMMANDS
    (tmp_path / "var2").symlink_to(stack.home)
    # The address of the first.
    env = stack.env | {"PORT": "8000", "GRAYCAT_HOME": str(tmp_path)}
    assert shell(SECOND, tmp_path, env).startswith(f"{stack.url}: games are served")


@pytest.mark.parametrize("command", CURLS)
def test_a_curl_line_is_answered(serving: Stack, command: str) -> None:
    answer = curl(serving, command)
    if "If-None-Match" in command:
        assert answer.status_code == 304
    else:
        assert answer.status_code in (200, 202)
        assert answer.content


@pytest.mark.parametrize("command", TASKS)
def test_a_graycat_task_line_works(serving: Stack, command: str, tmp_path) -> None:
    words = [str(BIN / "graycat"), *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=tmp_path, env=serving.env, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "list" in words
    assert bool(list(tmp_path.glob("*/*.png"))) == ("--download" in words)


@pytest.mark.parametrize("command", BATCHES)
def test_a_graycat_batch_line_works(studio: Stack, command: str, tmp_path) -> None:
    # The same images, small and quick.
    (tmp_path / "tavern.toml").write_text(
        re.sub(r"(?<=width = )512|(?<=height = )768", "64", TAVERN).replace("20", "1")
    )
    env = studio.env | {"PATH": f"{BIN}:/usr/bin:/bin"}
    words = ["/bin/sh", "-c", command]
    done = subprocess.run(words, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("script", [block for language, block in BLOCKS if language == "python"])
def test_a_script_runs(stack: Stack, script: str, tmp_path) -> None:
    words = [sys.executable, "-W", "error", "-c", filled_in(script, stack)]
    env = stack.env | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("celery ")])
def test_a_celery_line_works_from_the_checkout(stack: Stack, command: str) -> None:
    words = [str(BIN / "celery"), *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, env=stack.env, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "llm@" in done.stdout
