"""The README's commands, run as they stand there; only address and API token are this stack's."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.stack import BIN, ROOT, Client, Stack

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
#: A command is a line, and what follows a backslash at its end; what stands behind a `#` is for the reader.
COMMANDS = [line.partition("  #")[0] for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
CURLS = [line.strip() for line in COMMANDS if line.strip().startswith("curl ")]
#: Run by .ci/run itself, by the tests of `graycat up`, or shown output.
ELSEWHERE = {"make run", "make test", "PORT=8001 LLM_PORT=1338 SD_PORT=7861 GRAYCAT_HOME=./var2 make run"}
#: What a stack with an image engine answers.
IMAGES = ("/sdapi/", "/generate-image", "/v1/images/")


def test_every_command_is_one_that_a_test_runs() -> None:
    printed = {"graycat is ready at http://127.0.0.1:8000", "API token: gc_...", "Try it:", ""}
    others = {line.strip() for line in COMMANDS} - set(CURLS) - ELSEWHERE - printed
    assert {line for line in others if not line.startswith("celery ")} == set()
    assert len(CURLS) >= 6


@pytest.mark.parametrize("command", CURLS)
def test_a_curl_line_is_answered(request: pytest.FixtureRequest, command: str) -> None:
    about_images = any(path in command for path in IMAGES)
    stack: Stack = request.getfixturevalue("studio" if about_images else "stack")
    words = shlex.split(command.replace("$TOKEN", stack.token).replace("gc_...", stack.token))
    options = list(zip(words, words[1:], strict=False))
    headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
    data, user = (next((value for name, value in options if name == flag), None) for flag in ("-d", "-u"))
    path = words[1].removeprefix("http://127.0.0.1:8000")
    client = Client(stack.url)
    with client.session:
        auth = tuple(user.split(":", 1)) if user else None
        answer = client.request("POST" if data else "GET", path, data=data, headers=headers, auth=auth)
    assert answer.status_code == 200
    assert answer.content


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("celery ")])
def test_a_celery_line_works_from_the_checkout(stack: Stack, command: str) -> None:
    words = [str(BIN / "celery"), *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, env=stack.env, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "llm@" in done.stdout
