"""The commands of /openapi.json and /docs, run as they stand there against real processes; only answers are shorter."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

from tests.support.stack import Client, Stack

GROUPS = {"Games", "Chat", "Tasks"}
#: What an engine answers that was not started for it, and what a task of text has not; the rest is done.
OTHERWISE = {
    "llamacppInfill": {200, 501},
    **dict.fromkeys(("llamacppEmbeddings", "openaiOpenaiEmbeddings", "llamacppRerank"), {501}),
    "llamacppSetLoraAdapters": {403},
    "openaiOneModel": {404},
    **dict.fromkeys(("taskImagesImage", "taskImagesPreview"), {404}),
    # It was cancelled before, or had ended already.
    "tasksRetry": {202, 409},
}


#: The lengths of answers.
LENGTH = re.compile(r'("(?:n_predict|max_tokens|max_output_tokens)": )\d+')


def run(stack: Stack, api: Client, command: str) -> int:
    """Run a command of the document; return the status that it was answered with."""
    variables = {"GRAYCAT": stack.url, "TOKEN": api.session.headers["Authorization"].split()[-1]}
    options = "-s -o /dev/null -w %{http_code} --max-time 200"
    command = LENGTH.sub(r"\g<1>2", command.replace("curl", f"curl {options}", 1))
    shell = ["bash", "-c", command]
    done = subprocess.run(shell, env=os.environ | variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return int(done.stdout)


def test_every_command_for_text_and_tasks_is_answered_as_the_document_tells(stack: Stack, api: Client) -> None:
    document: dict[str, Any] = api.get("/openapi.json").json()
    ran = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if not GROUPS & set(operation["tags"]):
                continue
            command = operation["x-codeSamples"][0]["source"]
            status = run(stack, api, command)
            assert status in OTHERWISE.get(operation["operationId"], {200, 202}), f"{path}: {status}: {command}"
            assert str(status) in operation["responses"], command
            ran.append(operation["operationId"])
    assert len(ran) > 30
    assert set(OTHERWISE) < set(ran)
